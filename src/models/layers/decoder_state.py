"""Where captions in work stand. What they share of their photos is kept once, whatever the beam.

Notation: B photos, R captions in work.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class DecoderState:
    """Captions in work.

    Attributes:
        photo: [R] int64, each caption's photo.
        shared: what the captions of a photo share, each [B, ...].
        own: what each caption has to itself, each [R, ...].
    """

    photo: Tensor
    shared: list[Tensor]
    own: list[Tensor]

    def select(self, rows: Tensor) -> "DecoderState":
        """The captions rows [R'] int64 of this state: to repeat, reorder or drop them."""
        photo, shared = drop_unused_images(self.photo[rows], self.shared)
        return DecoderState(photo, shared, [part[rows] for part in self.own])

    def after(self, *own: Tensor) -> "DecoderState":
        """The same captions with other parts of their own."""
        return DecoderState(self.photo, self.shared, list(own))

    def in_turn(self) -> list[Tensor]:
        """The shared parts [P, ...] that serve R / P captions each, in turn.

        A photo's beam stands together, and then shares its part here too; else each caption gets one of its own.
        """
        some, each = self.photo.unique_consecutive(return_counts=True)
        if (each != each[:1]).any():
            some = self.photo
        every = torch.arange(len(some), device=some.device)
        if len(some) == len(self.shared[0]) and torch.equal(some, every):
            return self.shared
        return [part[some] for part in self.shared]


def drop_unused_images(photo: Tensor, parts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Drops photos that no caption needs, when they are half of all: each is copied twice at most, all in all.

    Args:
        photo: [R] int64, each caption's photo.
        parts: what is kept of the photos, each [B, ...].
    """
    used, place = photo.unique(return_inverse=True)
    if 2 * len(used) > len(parts[0]):
        return photo, parts
    return place, [part[used] for part in parts]
