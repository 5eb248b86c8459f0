"""What a model is fed: a batch of images with their labels, and the input of each task.

Notation: B images in the batch, R rows of it that a task uses, K captions an image, T tokens a caption,
N places of the grid, C channels, L level statistics.
Held by tests/data/test_dataset.py.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass
class TaskInput:
    """The input of one task: pixels, or the stored features of those images.

    Attributes:
        rows: [R] int64, which images of the batch, ascending.
        pixels: [R, 3, H, W] float in 0..1, normalised inside the backbone; a list of [3, H, W] where sizes differ.
        features: grid [R, N, C] (captions), levels [R, L] (mos) or trunk [R, words] of a store; pixels is None then.
    """

    rows: Tensor
    pixels: Tensor | list[Tensor] | None = None
    features: Tensor | None = None

    def to(self, device: torch.device | str) -> "TaskInput":
        """The input with its tensors on a device."""
        pixels = [p.to(device) for p in self.pixels] if isinstance(self.pixels, list) else _to(self.pixels, device)
        return TaskInput(self.rows.to(device), pixels, _to(self.features, device))


@dataclass
class Batch:
    """B images with their labels.

    In training and validation a task's input holds the rows that carry its label; in prediction it holds all rows. It
    is None where it would hold none. Where both tasks see the same pixels, `mos_input.pixels is caption_input.pixels`,
    and the backbone runs once.

    Attributes:
        names: B image names.
        sources: B names of data sets.
        style: [B] int64, the token that starts each image's caption.
        mos: [B] float32, in the data's units, NaN where unknown.
        tokens: [B, K, T] int64, style token first, end token last, then padding (0); a missing caption is all padding.
        mos_input: of the mos head, or None where that head is off.
        caption_input: of the caption decoder, or None where that head is off.
        references: B lists of captions as written; filled in evaluation only.
        unreadable: rows of images that cannot be read, ascending.
        weight: [B], factors on the images' losses; None: 1.
    """

    names: list[str]
    sources: list[str]
    style: Tensor
    mos: Tensor
    tokens: Tensor
    mos_input: TaskInput | None = None
    caption_input: TaskInput | None = None
    references: list[list[str]] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)
    weight: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The batch with its tensors on a device; pixels that both tasks share are moved once and stay shared."""
        mos_input = self.mos_input.to(device) if self.mos_input else None
        caption_input = self.caption_input.to(device) if self.caption_input else None
        shared = self.mos_input and self.caption_input and self.mos_input.pixels is self.caption_input.pixels
        if shared and mos_input and caption_input:
            caption_input = replace(caption_input, pixels=mos_input.pixels)
        style, mos, tokens = (x.to(device) for x in (self.style, self.mos, self.tokens))
        moved = replace(self, style=style, mos=mos, tokens=tokens, weight=_to(self.weight, device))
        return replace(moved, mos_input=mos_input, caption_input=caption_input)

    def __len__(self) -> int:
        return len(self.names)


def _to(tensor: Tensor | None, device: torch.device | str) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
