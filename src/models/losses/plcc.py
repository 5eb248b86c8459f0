"""1 - PLCC: it rewards a linear relation, whatever its scale. Held by tests/models/losses/test_mos_losses.py."""

from torch import Tensor

EPSILON = 1e-6


def loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - Pearson's linear correlation of [R] and [R], from 0 (best) to 2; 1 where either side is constant."""
    if len(target) < 2:
        return predicted.sum() * 0.0 + 1.0
    p, t = predicted - predicted.mean(), target - target.mean()
    # Within the root, so that the gradient of a constant prediction is finite.
    scale = ((p.square().mean() + EPSILON) * (t.square().mean() + EPSILON)).sqrt()
    return 1 - (p * t).mean() / scale
