"""Huber loss (Huber 1964). Held by tests/models/losses/test_mos_losses.py."""

import torch.nn.functional as F
from torch import Tensor


def loss(predicted: Tensor, target: Tensor, delta: float = 1.0) -> Tensor:
    """Squared error within delta of the target [R], linear beyond; 0 where R is 0."""
    return F.huber_loss(predicted, target, reduction="sum", delta=delta) / max(1, len(target))
