"""What a model is fed.

Notation: B photos in the batch, R rows of it that a task looks at, K captions a photo, T tokens a caption,
N places of the grid, C channels, L level statistics.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass
class TaskInput:
    """What one task sees of a batch: pixels, or the cached features of those photos.

    Attributes:
        rows: [R] int64, which photos of the batch, ascending.
        pixels: [R, 3, H, W] float in 0..1, normalised inside the backbone; a list of [3, H, W] where sizes differ.
        features: grid [R, N, C] (captions) or levels [R, L] (mos) from the cache; then pixels is None.
    """

    rows: Tensor
    pixels: Tensor | list[Tensor] | None = None
    features: Tensor | None = None

    def to(self, device: torch.device | str) -> "TaskInput":
        """The view with its tensors on a device."""
        pixels = [p.to(device) for p in self.pixels] if isinstance(self.pixels, list) else _to(self.pixels, device)
        return TaskInput(self.rows.to(device), pixels, _to(self.features, device))


@dataclass
class Batch:
    """B photos with their labels.

    In training and validation a task's view holds the rows that carry its label; in prediction it holds all rows. It is
    None where it would hold none.
    Where both tasks see the same pixels, `quality.pixels is captioning.pixels`, and the backbone runs once.

    Attributes:
        names: B photo names.
        sources: B names of data sets.
        style: [B] int64, the token that starts each photo's caption.
        mos: [B] float32, in the data's units, NaN where unknown.
        tokens: [B, K, T] int64, style token first, end token last, then padding (0); a missing caption is all padding.
        quality: what the mos head sees, or None where that head is off.
        captioning: what the caption decoder sees, or None where that head is off.
        references: B lists of captions as written; filled in evaluation only.
        unreadable: rows of photos that cannot be read, ascending.
    """

    names: list[str]
    sources: list[str]
    style: Tensor
    mos: Tensor
    tokens: Tensor
    quality: TaskInput | None = None
    captioning: TaskInput | None = None
    references: list[list[str]] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)

    def to(self, device: torch.device | str) -> "Batch":
        """The batch with its tensors on a device; pixels that both tasks share are moved once and stay shared."""
        quality = self.quality.to(device) if self.quality else None
        captioning = self.captioning.to(device) if self.captioning else None
        shared = self.quality and self.captioning and self.quality.pixels is self.captioning.pixels
        if shared and quality and captioning:
            captioning = replace(captioning, pixels=quality.pixels)
        style, mos, tokens = (x.to(device) for x in (self.style, self.mos, self.tokens))
        return replace(self, style=style, mos=mos, tokens=tokens, quality=quality, captioning=captioning)

    def __len__(self) -> int:
        return len(self.names)


def _to(tensor: Tensor | None, device: torch.device | str) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
