"""Mos heads: level statistics of a backbone to a mean opinion score, in the data's units.

Each other file of this folder is a kind, chosen by model.mos.kind. It exports HEAD, a subclass of MosHead, which the
losses train, or of FittedHead, which is fitted once to the features of all training images. Options of its own are the
dataclass `options_type`. A head consists of tensor operations, so that torch predicts it and ONNX takes it.
Held by tests/models/mos_heads/test_mos_heads.py.

Notation: n training images, R images or views of them, L level statistics.
"""

import time
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.config.dataclass_validation import fill_dataclass
from src.config.plugin_keys import NoOptions, mos_head_class
from src.config.schema import MosConfig

EPSILON = 1e-6  # the slope of a square root at 0 is infinite, and a trained layer may have channels that are all 0
MIN_DEVIATION = 0.02  # compressed statistics that vary less come from channels that are constant but for rounding


class MosHead(nn.Module, ABC):
    """A regression on standardised level statistics.

    Attributes:
        options_type: the dataclass of model.mos.options.
        options: these settings.
        trained: by the losses, in epochs; else by `fit`, once.
        seconds: of `fit`.
        mos_mean, mos_std: of the training images; the output is in their units.
    """

    options_type: ClassVar[type] = NoOptions
    trained: ClassVar[bool] = True
    seconds = 0.0
    center: Tensor
    scale: Tensor
    mos_mean: Tensor
    mos_std: Tensor

    def __init__(self, config: MosConfig, size: int) -> None:
        """A head for `size` level statistics."""
        super().__init__()
        self.options: Any = fill_dataclass(self.options_type, config.options)
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("mos_mean", torch.tensor(0.0))
        self.register_buffer("mos_std", torch.tensor(1.0))

    @abstractmethod
    def scaled(self, inputs: Tensor) -> Tensor:
        """Standardised level statistics [R, L] to mos [R] in standard deviations of the training mos, about 0."""

    @torch.no_grad()
    def fit_scale(self, levels: Tensor, mos: Tensor) -> None:
        """Takes centre and scale of inputs and output from the training images: levels [R, L], mos [R], NaN unknown."""
        levels, mos = signed_sqrt(levels.float()), mos[~mos.isnan()].float()
        self.center.copy_(levels.mean(dim=0))
        self.scale.copy_(levels.std(dim=0, correction=0).clamp(min=MIN_DEVIATION))
        if len(mos):
            self.mos_mean.copy_(mos.mean())
            self.mos_std.copy_(mos.std(correction=0).clamp(min=1e-3))

    def forward(self, levels: Tensor) -> Tensor:
        """[R, L] to mos [R] in the data's units, fp32."""
        with torch.autocast(levels.device.type, enabled=False):  # so little work that fp32 costs nothing
            return self.scaled(self.inputs(levels)) * self.mos_std + self.mos_mean

    def inputs(self, levels: Tensor) -> Tensor:
        """Level statistics [R, L], standardised, within -6..6."""
        return ((signed_sqrt(levels.float()) - self.center) / self.scale).clamp(-6, 6)

    def standard(self, mos: Tensor) -> Tensor:
        """mos in the data's units to standard deviations about the training mean, the unit of the losses."""
        return (mos - self.mos_mean) / self.mos_std


class FittedHead(MosHead):
    """A head without gradients, fitted once.

    Attributes:
        sized_by_fit: names of buffers whose first dimension the fit decides.
    """

    trained = False
    sized_by_fit: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fit_inputs(self, inputs: Tensor, targets: Tensor, weight: Tensor) -> None:
        """Fits to the standardised views [n, views, L] of images with standardised mos [n] and weights [n]."""

    @torch.no_grad()
    def fit(self, levels: Tensor, mos: Tensor, weight: Tensor | None = None) -> None:
        """Fits scales and head to level statistics [n, views, L], an image and perhaps its mirror image, and mos [n].

        Errors of an image count as much as its weight [n]; None: 1.

        Raises:
            UserError: fewer than two images.
        """
        start, views = time.perf_counter(), levels.flatten(0, 1)
        if len(levels) < 2:
            raise UserError("model.mos.kind: a head is fitted to two or more photos with mos; choose mlp")
        self.fit_scale(views, mos)
        weight = torch.ones(len(mos)) if weight is None else weight
        self.fit_inputs(self.inputs(views).unflatten(0, levels.shape[:2]), self.standard(mos.float()), weight)
        self.seconds = time.perf_counter() - start

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Takes the sizes of a fitted head's buffers."""
        for name in self.sized_by_fit:
            buffer, value = getattr(self, name), state_dict.get(prefix + name)
            if value is not None and value.shape[1:] == buffer.shape[1:]:
                setattr(self, name, buffer.new_empty(value.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def make_mos_head(config: MosConfig, size: int) -> MosHead:
    """An untrained head for `size` level statistics.

    Raises:
        UserError: there is no such kind.
    """
    return mos_head_class(config.kind)(config, size)


def signed_sqrt(levels: Tensor) -> Tensor:
    """Signed square root: statistics have long tails."""
    return levels / (levels.abs() + EPSILON).sqrt()
