"""Dropout: its rate, its mean, and that the seed decides it."""

import pytest
import torch

from src.models.layers.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.75])
def test_rate_mean_and_independence(p: float) -> None:
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(1000, 201))
    assert (out == 0).float().mean().item() == pytest.approx(p, abs=0.005)
    assert out.mean().item() == pytest.approx(1, abs=0.01)
    zero = (out == 0).float()
    for lag in range(1, 9):  # of the eight that share a number, too
        together = (zero[:, lag:] * zero[:, :-lag]).mean().item()
        assert together == pytest.approx(p * p, abs=0.01)


def test_the_seed_decides() -> None:
    dropout, values = Dropout(0.5), torch.randn(7, 5)
    torch.manual_seed(1)
    first = dropout(values)
    assert not torch.equal(first, dropout(values))
    torch.manual_seed(1)
    assert torch.equal(first, dropout(values))


def test_off_in_evaluation_and_at_both_ends() -> None:
    values = torch.randn(9)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)
    assert not Dropout(1.0)(values).any()


def test_gradient_goes_where_values_went() -> None:
    values = torch.randn(100, requires_grad=True)
    out = Dropout(0.5)(values)
    out.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad * values.detach(), out.detach())
