"""mos as a distribution over bins, by ridge regression of its cumulative probabilities.

The squared error of cumulative probabilities is the squared earth mover's distance between the distributions (NIMA with
r = 2, Talebi and Milanfar 2018, eq. 1). Without the votes of an image, its distribution is its mos, shared between the
two nearest edges of bins. Held by tests/models/mos_heads/test_mos_heads.py.

Notation: R rows, n images, K bins, L level statistics.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from sklearn.linear_model import Ridge, RidgeCV
from torch import Tensor

from src.config.schema import AtLeast0, MosConfig
from src.models.mos_heads.base import FittedHead
from src.models.mos_heads.ridge import ALPHAS


@dataclass
class Options:
    """Ridge regression of cumulative probabilities; the prediction is the mean of the distribution.

    Args:
        bins: number of bins between the lowest and the highest training mos.
        alpha: weight of the penalty; 0: as of ridge.
    """

    bins: Annotated[int, Ge(2)] = 10
    alpha: AtLeast0 = 0.0


class OrdinalHead(FittedHead):
    """For each bin, a linear function within 0..1: the probability that mos lies above the bin."""

    options_type = Options
    weight: Tensor
    bias: Tensor
    low: Tensor
    width: Tensor

    def __init__(self, config: MosConfig, size: int) -> None:
        super().__init__(config, size)
        self.register_buffer("weight", torch.zeros(self.options.bins, size))
        self.register_buffer("bias", torch.zeros(self.options.bins))
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("width", torch.tensor(1.0))

    def scaled(self, inputs: Tensor) -> Tensor:
        """As MosHead's."""
        above = (inputs @ self.weight.mT + self.bias).clamp(0, 1)
        return self.low + self.width * above.sum(dim=1)

    def fit_inputs(self, inputs: Tensor, targets: Tensor, weight: Tensor) -> None:
        """As FittedHead's."""
        self.low.copy_(targets.min())
        self.width.copy_((targets.max() - targets.min()) / self.options.bins)
        model = Ridge(self.options.alpha) if self.options.alpha else RidgeCV(ALPHAS)
        model.fit(inputs.mean(dim=1).numpy(), self.probabilities_above(targets).numpy(), weight.numpy())
        self.weight.copy_(torch.from_numpy(model.coef_))
        self.bias.copy_(torch.from_numpy(model.intercept_))

    def probabilities_above(self, targets: Tensor) -> Tensor:
        """The part [n, K] of each bin that lies below mos [n]; its sum over bins is mos in widths above the lowest."""
        edges = self.low + self.width * torch.arange(self.options.bins)
        return ((targets.unsqueeze(1) - edges) / self.width.clamp(min=1e-6)).clamp(0, 1)


HEAD = OrdinalHead
