"""Losses against their formulas and torch's own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.losses import _cross_entropy, huber, mse, plcc, rank
from src.models.losses.base import load_losses


def ranked(p: list[float], t: list[float], margin: float = 1.0) -> float:
    pairs = [(i, j) for i in range(len(t)) for j in range(len(t)) if t[i] > t[j]]
    return float(np.mean([max(0.0, min(margin, t[i] - t[j]) - (p[i] - p[j])) for i, j in pairs]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_caption_ce_is_torchs(smoothing: float) -> None:
    logits, tokens = torch.randn(2, 3, 5, 11), torch.randint(1, 11, (2, 3, 6))
    tokens[0, 1] = 0
    tokens[1, 2, 4:] = 0
    expected = F.cross_entropy(
        logits.view(-1, 11), tokens[:, :, 1:].reshape(-1), ignore_index=0, label_smoothing=smoothing
    )
    torch.testing.assert_close(_cross_entropy.caption_cross_entropy(logits, tokens, smoothing), expected)


def test_caption_ce_looks_one_ahead() -> None:
    tokens = torch.tensor([[3, 5, 4, 2]])
    logits = 50.0 * F.one_hot(tokens[:, 1:], 6).float()
    assert _cross_entropy.caption_cross_entropy(logits, tokens) < 1e-6
    assert _cross_entropy.caption_cross_entropy(50.0 * F.one_hot(tokens[:, :-1], 6).float(), tokens) > 1


def test_caption_ce_of_padding_is_0() -> None:
    logits = torch.randn(1, 2, 3, 7, requires_grad=True)
    loss = _cross_entropy.caption_cross_entropy(logits, torch.zeros(1, 2, 4, dtype=torch.long))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("scaled", [False, True])
def test_linear_ce_is_torchs_in_slices(smoothing: float, scaled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cross_entropy, "SLICE_LOGITS", 40)  # three rows, and one is left over
    sizes = [(10, 5), (13, 5), (13,)]
    ours = [torch.randn(size, requires_grad=True) for size in sizes]
    theirs = [value.detach().clone().requires_grad_() for value in ours]
    target = torch.randint(1, 13, (10,))
    scale = torch.randn(10) if scaled else None
    loss = _cross_entropy.linear_cross_entropy(*ours, target, smoothing, scale)
    each = F.cross_entropy(F.linear(*theirs), target, label_smoothing=smoothing, reduction="none")
    expected = (each if scale is None else scale * each).mean()
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(loss, expected)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    with torch.no_grad():
        torch.testing.assert_close(_cross_entropy.linear_cross_entropy(*ours, target, smoothing, scale), expected)


def test_mos_losses_are_their_formulas() -> None:
    p, t = torch.randn(17), torch.randn(17)
    torch.testing.assert_close(mse.loss(p, t), F.mse_loss(p, t))
    torch.testing.assert_close(huber.loss(p, t), F.huber_loss(p, t))
    assert plcc.loss(p, t).item() == pytest.approx(1 - np.corrcoef(p, t)[0, 1], abs=1e-4)
    assert rank.loss(p, t).item() == pytest.approx(ranked(p.tolist(), t.tolist()), abs=1e-5)


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
