"""Support vector regression with an RBF kernel (Drucker et al. 1997).

Held by tests/models/mos_heads/test_mos_heads.py.

Notation: R rows, S support vectors, L level statistics.
"""

from dataclasses import dataclass

import torch
from sklearn.svm import SVR
from torch import Tensor

from src.common.errors import UserError
from src.config.schema import Above0, AtLeast0, MosConfig
from src.models.mos_heads.base import FittedHead

MOST_ROWS = 25_000  # the kernel of so many has 5 GB


@dataclass
class Options:
    """Support vectors with the kernel exp(-gamma |a - b|^2) on the level statistics.

    Args:
        c: weight of errors against smoothness; mos is in standard deviations of the training mos.
        epsilon: error below which a photo adds nothing to the loss, in the same unit.
        gamma: of the kernel; 0: 1 / number of level statistics.
    """

    c: Above0 = 3.0
    epsilon: AtLeast0 = 0.1
    gamma: AtLeast0 = 0.0


class SVRHead(FittedHead):
    """Support vectors [S, L] in half precision, their dual coefficients [S] and a bias; each view is a row."""

    options_type = Options
    sized_by_fit = ("support", "dual")
    support: Tensor
    dual: Tensor
    bias: Tensor

    def __init__(self, config: MosConfig, size: int) -> None:
        super().__init__(config, size)
        self.gamma = self.options.gamma or 1 / size
        self.register_buffer("support", torch.zeros(0, size, dtype=torch.float16))
        self.register_buffer("dual", torch.zeros(0))
        self.register_buffer("bias", torch.tensor(0.0))

    def scaled(self, inputs: Tensor) -> Tensor:
        """As MosHead's."""
        return rbf_kernel(inputs, self.support.float(), self.gamma) @ self.dual + self.bias

    def fit_inputs(self, inputs: Tensor, targets: Tensor, weight: Tensor) -> None:
        """As FittedHead's.

        Raises:
            UserError: the kernel of so many rows does not fit into memory.
        """
        if (rows := len(inputs) * inputs.shape[1]) > MOST_ROWS:
            count = f"{MOST_ROWS:,} photos with their mirror images, not {rows:,}"
            remedy = "choose ridge or gbm, or halve them by data.flip false"
            raise UserError(f"model.mos.kind: svr takes {count}; {remedy}")
        views = inputs.flatten(0, 1).half()
        kernel = rbf_kernel(views.float(), views.float(), self.gamma).double().numpy()
        model = SVR(kernel="precomputed", C=self.options.c, epsilon=self.options.epsilon)
        model.fit(kernel, *(x.repeat_interleave(inputs.shape[1]).numpy() for x in (targets, weight)))
        self.support = views[torch.from_numpy(model.support_).long()]
        self.dual = torch.from_numpy(model.dual_coef_[0]).float()
        self.bias.fill_(float(model.intercept_[0]))


def rbf_kernel(a: Tensor, b: Tensor, gamma: float) -> Tensor:
    """exp(-gamma |a_i - b_j|^2) [R, S] of rows [R, L] and [S, L]."""
    squares = a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1) - 2 * a @ b.mT
    return (-gamma * squares.clamp(min=0)).exp()


HEAD = SVRHead
