"""What captions cost: a beam of five against greedy, on grids that are there already."""

import time
from collections.abc import Callable
from functools import partial

import torch

from src.config.schema import DecoderConfig, GenerationConfig
from src.models.decoders.recurrent import RecurrentDecoder
from src.models.generation import generate

Row = tuple[str, str, str]
PHOTOS, PLACES, CHANNELS, VOCABULARY, WORDS = 128, 49, 1280, 2600, 11


def rows() -> list[Row]:
    """What was measured, photos a second of both, and their ratio."""
    decoder, grid, style = setting()
    special = [0, 1, 3]

    def run(method: str) -> Callable[[], object]:
        config = GenerationConfig(method=method, beam=5, max_length=WORDS)  # type: ignore[arg-type]
        return partial(generate, decoder, grid, style, config, special)

    with torch.autocast("cpu", torch.bfloat16):
        beam, greedy = best(run("beam"), run("greedy"))
    rates = f"{PHOTOS / beam:.0f} / {PHOTOS / greedy:.0f} photos/s"
    return [(f"captions of {WORDS} words on cached grids, beam of 5 / greedy", rates, f"{greedy / beam:.2f}")]


def setting() -> tuple[RecurrentDecoder, torch.Tensor, torch.Tensor]:
    """A decoder as configured by default that ends no caption by itself: all have WORDS words, as people's do."""
    torch.manual_seed(0)
    decoder = RecurrentDecoder(DecoderConfig(), VOCABULARY, CHANNELS).eval()
    with torch.no_grad():
        decoder.vocabulary.bias[2] = -20.0
    grid = torch.randn(PHOTOS, PLACES, CHANNELS).relu().bfloat16()
    return decoder, grid, torch.full((PHOTOS,), 3)


def best(*runs: Callable[[], object], turns: int = 3) -> list[float]:
    """The least seconds of each, measured in turn."""
    seconds = [float("inf")] * len(runs)
    for _ in range(turns):
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            seconds[i] = min(seconds[i], time.perf_counter() - start)
    return seconds
