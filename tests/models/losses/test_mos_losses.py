"""Losses of the mos head against their formulas and torch's own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.losses import huber, mse, plcc, rank
from src.models.losses.base import load_losses


def ranked(p: list[float], t: list[float], margin: float = 1.0) -> float:
    pairs = [(i, j) for i in range(len(t)) for j in range(len(t)) if t[i] > t[j]]
    return float(np.mean([max(0.0, min(margin, t[i] - t[j]) - (p[i] - p[j])) for i, j in pairs]))


def test_mos_losses_are_their_formulas() -> None:
    p, t = torch.randn(17), torch.randn(17)
    torch.testing.assert_close(mse.loss(p, t), F.mse_loss(p, t))
    torch.testing.assert_close(huber.loss(p, t), F.huber_loss(p, t))
    assert plcc.loss(p, t).item() == pytest.approx(1 - np.corrcoef(p, t)[0, 1], abs=1e-4)
    assert rank.loss(p, t).item() == pytest.approx(ranked(p.tolist(), t.tolist()), abs=1e-5)


def test_weights_multiply_the_losses_of_images() -> None:
    p, t, w = torch.randn(17), torch.randn(17), torch.rand(17)
    torch.testing.assert_close(mse.loss(p, t, w), (w * F.mse_loss(p, t, reduction="none")).mean())
    torch.testing.assert_close(huber.loss(p, t, w), (w * F.huber_loss(p, t, reduction="none")).mean())
    covariance = np.cov(p, t, aweights=w)
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert plcc.loss(p, t, w).item() == pytest.approx(float(w.mean()) * (1 - correlation), abs=1e-4)
    for loss in (mse.loss, huber.loss, plcc.loss, rank.loss):
        torch.testing.assert_close(loss(p, t, torch.full((17,), 0.3)), 0.3 * loss(p, t))
    light = torch.where(torch.arange(17) < 9, 1.0, 1e-9)  # pairs with a photo of no weight cost nothing
    pairs = [(i, j) for i in range(17) for j in range(17) if t[i] > t[j]]
    kept = [float((t[i] - t[j]).clamp(max=1) - (p[i] - p[j])) for i, j in pairs if i < 9 and j < 9]
    assert rank.loss(p, t, light).item() == pytest.approx(np.clip(kept, 0, None).sum() / len(pairs), abs=1e-3)


def test_plcc_ignores_scale_and_offset() -> None:
    t = torch.randn(30)
    assert plcc.loss(3 * t + 7, t).item() == pytest.approx(0, abs=1e-4)
    assert plcc.loss(-t, t).item() == pytest.approx(2, abs=1e-4)


def test_rank_of_the_right_order_far_enough_apart_is_0() -> None:
    t = torch.tensor([0.0, 0.3, 2.0])
    assert rank.loss(torch.tensor([0.0, 0.5, 1.6]), t) == 0
    assert rank.loss(-t, t) > 0


@pytest.mark.parametrize("name", ["mse", "huber", "plcc", "rank"])
@pytest.mark.parametrize(
    ("p", "t"), [([], []), ([1.0], [2.0]), ([1.0, 1.0, 1.0], [2.0, 3.0, 1.0]), ([1.0, 2.0], [5.0, 5.0])]
)
def test_mos_losses_are_finite(name: str, p: list[float], t: list[float]) -> None:
    predicted = torch.tensor(p, requires_grad=True)
    loss: Tensor = load_losses({name: 1.0})[name](predicted, torch.tensor(t))
    loss.backward()
    assert torch.isfinite(loss)
    assert predicted.grad is not None
    assert torch.isfinite(predicted.grad).all()
