"""Which decoder a config asks for."""

from src.config import DecoderConfig
from src.model.llama import Llama
from src.model.recurrent import Recurrent

CaptionDecoder = Recurrent | Llama


def make_decoder(config: DecoderConfig, vocabulary: int, channels: int) -> CaptionDecoder:
    """A decoder of `vocabulary` tokens for grids of `channels`, not trained yet.

    Raises:
        UserError: its sizes do not go together.
    """
    kinds: dict[str, type[CaptionDecoder]] = {"recurrent": Recurrent, "llama": Llama}
    return kinds[config.kind](config, vocabulary, channels)
