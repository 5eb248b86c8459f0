"""Grouped convolutions that leave autocast where a CPU trains them.

Held by tests/models/layers/test_full_precision.py.
"""

from typing import Any

import torch
from torch import Tensor, nn


class FullPrecision:
    """Computes a convolution in fp32 where a CPU trains it.

    The backward pass of a depthwise convolution in bf16 has no fast kernel there: with stride 2 it takes 60 times as
    long as in fp32 (PyTorch 2.11, oneDNN).
    """

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution's."""
        compute: Any = super().forward  # type: ignore[misc]
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return compute(x)
        with torch.autocast("cpu", enabled=False):
            return compute(x.float())


def train_in_full_precision(network: nn.Module) -> None:
    """Makes a network's trained convolutions with groups FullPrecision ones."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and module.weight.requires_grad:
            kind = type(module)
            module.__class__ = type(kind.__name__, (FullPrecision, kind), {})
