"""Which decoder a config asks for."""

from src.common.errors import UserError
from src.config.schema import BackboneConfig, DecoderConfig
from src.models.decoders.blip_decoder import BlipDecoder
from src.models.decoders.llama import LlamaDecoder
from src.models.decoders.merge import MergeDecoder
from src.models.decoders.recurrent import RecurrentDecoder
from src.models.layers.llama_blocks import check_llama_sizes

CaptionDecoder = RecurrentDecoder | MergeDecoder | LlamaDecoder | BlipDecoder


def make_decoder(
    config: DecoderConfig, vocabulary: int, channels: int, backbone: BackboneConfig | None = None, styles: int = 1
) -> CaptionDecoder:
    """A decoder of `vocabulary` tokens, `styles` of them styles, for grids of `channels`, not trained on them yet.

    A BLIP's also needs the config of its backbone, with the BLIP's name and sizes.

    Raises:
        UserError: as `check`, or the decoder does not fit the backbone.
    """
    check_decoder_config(config)
    if config.kind == "blip":
        return BlipDecoder(config, vocabulary, channels, backbone, styles)
    kinds: dict[str, type[RecurrentDecoder | MergeDecoder | LlamaDecoder]] = {
        "recurrent": RecurrentDecoder,
        "merge": MergeDecoder,
        "llama": LlamaDecoder,
    }
    return kinds[config.kind](config, vocabulary, channels)


def check_decoder_config(config: DecoderConfig) -> None:
    """Raises UserError where a config's parts do not go together."""
    if config.bidirectional and config.kind != "merge":
        raise UserError(
            f"model.decoder.bidirectional: kind {config.kind} reads forwards only; set it false or kind merge"
        )
    if config.kind == "llama":
        check_llama_sizes(config.llama)
    attends = config.kind == "recurrent" and config.attention != "none"
    if config.doubly_stochastic and not attends:
        where = f"kind {config.kind}" if config.kind != "recurrent" else "attention none"
        raise UserError(f"model.decoder.doubly_stochastic: {where} has no attention; set it 0, or choose another")
