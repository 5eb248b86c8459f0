"""Cross-entropy of captions against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from src.models.losses import _cross_entropy


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
