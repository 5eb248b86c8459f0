"""A split by photo-caption pairs, as some captioning projects have it. It leaks: never compare its scores with others'.

Pairs are shuffled before they are cut into parts, so nearly every test photo also stands in training, with its other
captions. It is here to measure what that leak is worth, beside a split by photo.
"""

import sys
from collections.abc import Mapping, Sequence

from src.common.errors import UserError
from src.config.schema import DataConfig
from src.data.sample import Sample

LEAKING = "leaking_pairs"


def is_leaky(config: DataConfig) -> bool:
    """Whether a config asks for this split."""
    return any(source.split == LEAKING for source in config.sources)


def check_leaky_sources(config: DataConfig) -> None:
    """Raises UserError where this split would get into the scores of data sets that are split by photo."""
    if is_leaky(config) and any(source.split != LEAKING for source in config.sources):
        raise UserError(f"data.sources: split {LEAKING} goes with no other; give it to all sources or to none")


def as_caption_pairs(samples: Sequence[Sample]) -> list[Sample]:
    """One sample a pair, called PHOTO#NUMBER: its one caption is all that it is held against. mos is left out."""
    return [
        Sample(sample.path, f"{sample.name}#{i}", sample.source, None, (caption,))
        for sample in samples
        for i, caption in enumerate(sample.captions)
    ]


def count_leaked(samples: Sequence[Sample], parts: Mapping[tuple[str, str], str], part: str) -> tuple[int, int]:
    """How many photos of a part also stand in training, and how many it has."""
    paths = {
        side: {sample.path for sample in samples if parts.get((sample.source, sample.name)) == side}
        for side in ("train", part)
    }
    return len(paths[part] & paths["train"]), len(paths[part])


def warn_leaked(samples: Sequence[Sample], parts: Mapping[tuple[str, str], str]) -> None:
    """Says on stderr how many held-out photos stand in training."""
    for part in ("val", "test"):
        both, held = count_leaked(samples, parts, part)
        if held:
            share = f"{both:,} of {held:,} {part} photos ({both / held:.1%}) also stand in training"
            print(f"warning: data.sources: split {LEAKING}: {share}; its scores measure memory too", file=sys.stderr)


def warn_leaky_model(name: str, config: DataConfig) -> None:
    """Says on stderr that a model was trained so: it has seen photos of every honest test part of its data set."""
    if is_leaky(config):
        about = "it has seen held-out photos of its data set in training, so no score on these is honest"
        print(f"warning: {name} was trained under split {LEAKING}: {about}", file=sys.stderr)
