"""Mean squared error. Held by tests/models/losses/test_mos_losses.py."""

from torch import Tensor

from src.models.losses.base import weigh


def loss(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error of [R] and [R], each times its weight [R]; 0 where R is 0."""
    return weigh((predicted - target).square(), weight).sum() / max(1, len(target))
