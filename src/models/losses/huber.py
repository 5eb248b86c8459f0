"""Huber loss (Huber 1964). Held by tests/models/losses/test_mos_losses.py."""

import torch.nn.functional as F
from torch import Tensor

from src.models.losses.base import weigh


def loss(predicted: Tensor, target: Tensor, weight: Tensor | None = None, delta: float = 1.0) -> Tensor:
    """Squared error within delta of the target [R], linear beyond, each times its weight [R]; 0 where R is 0."""
    costs = F.huber_loss(predicted, target, reduction="none", delta=delta)
    return weigh(costs, weight).sum() / max(1, len(target))
