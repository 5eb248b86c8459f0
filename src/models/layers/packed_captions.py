"""Captions without their padding, position by position, for teacher forcing. Held by tests/models/contract.py.

Notation: B images, K captions an image, T tokens a caption, R captions that are not all padding, the longest first,
M positions of all captions, time by time, the captions that still go on at each.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

PAD = 0


@dataclass
class PackedLayout:
    """Where captions stand.

    Attributes:
        images: B.
        rows: [R] int64, each caption's place among all B K, image by image.
        counts: at each time, how many captions still go on.
        places: [M] int64, where each position stands in [B K, times], flattened.
        captions: K.
    """

    images: int
    rows: Tensor
    counts: list[int]
    places: Tensor
    captions: int

    @property
    def image(self) -> Tensor:
        """[R] int64, each caption's image."""
        return self.rows // self.captions

    def time_slices(self) -> list[tuple[int, int, int]]:
        """(first position, last position + 1, captions) of each time."""
        ends = torch.tensor(self.counts).cumsum(0).tolist()
        return [(end - n, end, n) for end, n in zip(ends, self.counts, strict=True)]

    def caption_index(self) -> Tensor:
        """[M] int64, which of the R captions each position belongs to."""
        first = torch.arange(0, device=self.rows.device)
        return torch.cat([first, *(torch.arange(n, device=self.rows.device) for n in self.counts)])

    def time_index(self) -> Tensor:
        """[M] int64, the time of each position."""
        counts = torch.tensor(self.counts, device=self.rows.device)
        return torch.arange(len(counts), device=counts.device).repeat_interleave(counts)

    def read_grid(self, weights: Tensor, grid: Tensor) -> Tensor:
        """[n, X] weights by [B, X, Y] of each caption's image, to [n, Y], without copies of the grid."""
        rows = self.rows[: len(weights)]
        full = weights.new_zeros(self.images * self.captions, weights.shape[1]).index_copy_(0, rows, weights)
        return (full.view(self.images, self.captions, -1) @ grid).flatten(0, 1)[rows]

    def sum_by_image(self, weights: Tensor, values: Tensor) -> Tensor:
        """The sum over an image's positions of weights [M, X] times values [M, Y], to [B, X, Y]."""
        size = self.images * self.captions * len(self.counts)
        left = weights.new_zeros(size, weights.shape[1]).index_copy_(0, self.places, weights)
        right = values.new_zeros(size, values.shape[1]).index_copy_(0, self.places, values)
        return left.view(self.images, -1, weights.shape[1]).mT @ right.view(self.images, -1, values.shape[1])


@dataclass
class PackedCaptions:
    """Captions to train on.

    Attributes:
        layout: where they stand.
        inputs: [M] int64, the tokens that the decoder reads.
        targets: [M] int64, the tokens that follow them.
        caption: [M] int64, which of the B K captions each belongs to.
    """

    layout: PackedLayout
    inputs: Tensor
    targets: Tensor
    caption: Tensor


def pack_captions(tokens: Tensor) -> PackedCaptions:
    """Packs [B, K, T] tokens, without captions that are all padding."""
    rows = tokens.flatten(0, 1)
    steps = ((rows != PAD).sum(dim=1) - 1).clamp(min=0)
    steps, order = steps.sort(descending=True, stable=True)
    time = torch.arange(rows.shape[1] - 1, device=rows.device)
    alive = time.unsqueeze(1) < steps.unsqueeze(0)
    counts = [n for n in alive.sum(dim=1).tolist() if n]
    at = alive.nonzero()
    caption, position = order[at[:, 1]], at[:, 0]
    places = caption * len(counts) + position
    layout = PackedLayout(len(tokens), order[: max(counts, default=0)], counts, places, tokens.shape[1])
    return PackedCaptions(layout, rows[caption, position], rows[caption, position + 1], caption)


def unpack_captions(values: Tensor, layout: PackedLayout, shape: tuple[int, int, int]) -> Tensor:
    """[M, V] of positions to [B, K, T - 1, V] for tokens of `shape` [B, K, T]; 0 at padding."""
    b, k, t = shape
    full = values.new_zeros(b * k, t - 1, values.shape[1])
    if layout.counts:
        full[layout.places // len(layout.counts), layout.places % len(layout.counts)] = values
    return full.view(b, k, t - 1, -1)
