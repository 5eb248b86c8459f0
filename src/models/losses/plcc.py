"""1 - PLCC: it rewards a linear relation, whatever its scale. Held by tests/models/losses/test_mos_losses.py."""

import torch
from torch import Tensor

from src.models.losses.base import weigh

EPSILON = 1e-6


def loss(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 - Pearson's linear correlation of [R] and [R], from 0 (best) to 2; 1 where either side is constant.

    With weights [R], the weighted correlation; the loss is then multiplied by the mean weight.
    """
    if len(target) < 2:
        return predicted.sum() * 0.0 + 1.0
    total = torch.ones_like(target).mean() if weight is None else weight.mean()

    def mean(values: Tensor) -> Tensor:
        return weigh(values, weight).mean() / total

    p, t = predicted - mean(predicted), target - mean(target)
    # Within the root, so that the gradient of a constant prediction is finite.
    scale = ((mean(p.square()) + EPSILON) * (mean(t.square()) + EPSILON)).sqrt()
    return total * (1 - mean(p * t) / scale)
