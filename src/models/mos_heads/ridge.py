"""Ridge regression (Hoerl and Kennard 1970). Held by tests/models/mos_heads/test_mos_heads.py."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import Ridge, RidgeCV
from torch import Tensor

from src.config.schema import AtLeast0, MosConfig
from src.models.mos_heads.base import FittedHead

ALPHAS = np.logspace(0, 7, 29)


@dataclass
class Options:
    """Ridge regression on the level statistics.

    Args:
        alpha: weight of the penalty; 0: the value from 1 to 10,000,000 with the least squared error when each training
            photo is left out once.
    """

    alpha: AtLeast0 = 0.0


class RidgeHead(FittedHead):
    """A linear function. It is fitted to the mean of an image's views, since the mean of its predictions counts."""

    options_type = Options
    weight: Tensor
    bias: Tensor

    def __init__(self, config: MosConfig, size: int) -> None:
        super().__init__(config, size)
        self.register_buffer("weight", torch.zeros(size))
        self.register_buffer("bias", torch.tensor(0.0))

    def scaled(self, inputs: Tensor) -> Tensor:
        """As MosHead's."""
        return inputs @ self.weight + self.bias

    def fit_inputs(self, inputs: Tensor, targets: Tensor, weight: Tensor) -> None:
        """As FittedHead's."""
        model = Ridge(self.options.alpha) if self.options.alpha else RidgeCV(ALPHAS)
        model.fit(inputs.mean(dim=1).numpy(), targets.numpy(), weight.numpy())
        self.weight.copy_(torch.from_numpy(model.coef_))
        self.bias.fill_(float(model.intercept_))


HEAD = RidgeHead
