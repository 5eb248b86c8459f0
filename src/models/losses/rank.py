"""Pairwise rank hinge: it rewards the right order. Held by tests/models/losses/test_mos_losses.py."""

import torch
from torch import Tensor


def loss(predicted: Tensor, target: Tensor, margin: float = 1.0) -> Tensor:
    """The mean cost of pairs with different targets, of [R] and [R]; 0 where there is no such pair.

    A pair costs max(0, min(margin, |t_i - t_j|) - sign(t_i - t_j) (p_i - p_j)): predictions need not lie further apart
    than their targets.
    """
    gap = target.unsqueeze(1) - target.unsqueeze(0)
    above = gap > 0
    cost = (gap.clamp(max=margin) - (predicted.unsqueeze(1) - predicted.unsqueeze(0))).clamp(min=0)
    return torch.where(above, cost, 0.0).sum() / above.sum().clamp(min=1)
