"""The state of captions in a decoder. Parts that captions share with their image are stored once, whatever the beam.
Held by tests/models/decoders/test_llama.py.

Notation: B images, R captions in work, P images that they belong to.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class DecoderState:
    """The state of R captions.

    Attributes:
        image: [R] int64, each caption's image.
        shared: parts that the captions of an image share, each [B, ...].
        parts: all other parts, each [R, ...].
    """

    image: Tensor
    shared: list[Tensor]
    parts: list[Tensor]

    def select(self, rows: Tensor) -> "DecoderState":
        """The captions rows [R'] int64 of this state: to repeat, reorder or drop them."""
        image, shared = drop_unused_images(self.image[rows], self.shared)
        return DecoderState(image, shared, [part[rows] for part in self.parts])

    def advance(self, *parts: Tensor) -> "DecoderState":
        """The same captions with other parts."""
        return DecoderState(self.image, self.shared, list(parts))

    def grouped_shared(self) -> list[Tensor]:
        """The shared parts [P, ...], each for R / P captions in turn.

        P is the number of images where the captions of each stand together and are equally many, else R.
        """
        images, counts = self.image.unique_consecutive(return_counts=True)
        if (counts != counts[:1]).any():
            images = self.image
        every = torch.arange(len(images), device=images.device)
        if len(images) == len(self.shared[0]) and torch.equal(images, every):
            return self.shared
        return [part[images] for part in self.shared]


@dataclass(frozen=True)
class StateLayout:
    """The parts of a decoder's state.

    Attributes:
        shared: how many parts the captions of an image share.
        grows: axes of the other parts that grow with the caption.
    """

    shared: int
    grows: tuple[int, ...] = ()


def drop_unused_images(image: Tensor, parts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Drops images that no caption needs once they are half of all, so that each is copied twice at most.

    Args:
        image: [R] int64, each caption's image.
        parts: of the images, each [B, ...].
    """
    used, place = image.unique(return_inverse=True)
    if 2 * len(used) > len(parts[0]):
        return image, parts
    return place, [part[used] for part in parts]
