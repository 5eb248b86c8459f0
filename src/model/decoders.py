"""Which decoder a config asks for."""

from src.config import DecoderConfig
from src.model.recurrent import Recurrent

CaptionDecoder = Recurrent


def make_decoder(config: DecoderConfig, vocabulary: int, channels: int) -> CaptionDecoder:
    """A decoder of `vocabulary` tokens for grids of `channels`, not trained yet."""
    return Recurrent(config, vocabulary, channels)
