"""Pairwise rank hinge: it rewards the right order. Held by tests/models/losses/test_mos_losses.py."""

import torch
from torch import Tensor

from src.models.losses.base import weigh


def loss(predicted: Tensor, target: Tensor, weight: Tensor | None = None, margin: float = 1.0) -> Tensor:
    """The mean cost of pairs with different targets, of [R] and [R]; 0 where there is no such pair.

    A pair costs max(0, min(margin, |t_i - t_j|) - sign(t_i - t_j) (p_i - p_j)): predictions need not lie further apart
    than their targets. A pair counts as much as the geometric mean of its images' weights [R].
    """
    gap = target.unsqueeze(1) - target.unsqueeze(0)
    above = gap > 0
    cost = (gap.clamp(max=margin) - (predicted.unsqueeze(1) - predicted.unsqueeze(0))).clamp(min=0)
    pairs = None if weight is None else (weight.unsqueeze(1) * weight.unsqueeze(0)).sqrt()
    return weigh(torch.where(above, cost, 0.0), pairs).sum() / above.sum().clamp(min=1)
