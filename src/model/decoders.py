"""Which decoder a config asks for."""

from src.config import DecoderConfig
from src.errors import UserError
from src.model.blocks import check_sizes
from src.model.llama import Llama
from src.model.merge import Merge
from src.model.recurrent import Recurrent

CaptionDecoder = Recurrent | Merge | Llama


def make_decoder(config: DecoderConfig, vocabulary: int, channels: int) -> CaptionDecoder:
    """A decoder of `vocabulary` tokens for grids of `channels`, not trained yet.

    Raises:
        UserError: as `check`.
    """
    check(config)
    kinds: dict[str, type[CaptionDecoder]] = {"recurrent": Recurrent, "merge": Merge, "llama": Llama}
    return kinds[config.kind](config, vocabulary, channels)


def check(config: DecoderConfig) -> None:
    """Raises UserError where a config's parts do not go together."""
    if not 1 <= config.layers <= 3:
        raise UserError(f"model.decoder.layers is {config.layers}: give 1, 2 or 3")
    if config.bidirectional and config.kind != "merge":
        raise UserError(
            f"model.decoder.bidirectional: kind {config.kind} reads forwards only; set it false or kind merge"
        )
    if config.kind == "llama":
        check_sizes(config.llama)
    attends = config.kind == "recurrent" and config.attention != "none"
    if config.doubly_stochastic and not attends:
        where = f"kind {config.kind}" if config.kind != "recurrent" else "attention none"
        raise UserError(f"model.decoder.doubly_stochastic: {where} has no attention; set it 0, or choose another")
