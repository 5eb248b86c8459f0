"""What captions in work share of their photos: the photos' keys and values are kept once, whatever the beam.

Notation: B photos, R captions in work.
"""

import torch
from torch import Tensor


def needed(photo: Tensor, parts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Drops photos that no caption needs, when they are half of all: each is copied twice at most, all in all.

    Args:
        photo: [R] int64, each caption's photo.
        parts: what is kept of the photos, each [B, ...].
    """
    used, place = photo.unique(return_inverse=True)
    if 2 * len(used) > len(parts[0]):
        return photo, parts
    return place, [part[used] for part in parts]


def in_turn(photo: Tensor, parts: list[Tensor]) -> list[Tensor]:
    """The parts [P, ...] that serve R / P captions each, in turn.

    A photo's beam stands together, and then shares its part here too; else each caption gets one of its own.
    """
    some, each = photo.unique_consecutive(return_counts=True)
    if (each != each[:1]).any():
        some = photo
    if len(some) == len(parts[0]) and torch.equal(some, torch.arange(len(some), device=some.device)):
        return parts
    return [part[some] for part in parts]
