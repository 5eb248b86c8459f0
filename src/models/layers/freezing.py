"""Which parameters of a network are trained. Held by tests/models/backbones/test_base.py."""

from typing import Any

import torch
from timm.models._manipulate import group_with_matcher
from torch import Tensor


def freeze_groups(network: Any, output: Tensor, trainable: int) -> None:
    """Leaves gradients to the last `trainable` layer groups, as timm orders them (-1: to all), of those in use.

    Layers that `output` does not depend on, of a head that is not there, would never get a gradient.
    """
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(output, parameters, allow_unused=True)
    used = {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
    groups = group_with_matcher(network.named_parameters(), network.group_matcher(coarse=True), reverse=True)
    order = sorted({groups[name] for name in used})
    trained = set(order if trainable < 0 else order[-trainable:])
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in used and groups[name] in trained)
