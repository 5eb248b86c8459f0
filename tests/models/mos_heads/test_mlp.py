"""The perceptron: the data's units, scales, and that it learns."""

import pytest
import torch

from src.config.schema import MosConfig
from src.models.mos_heads.mlp import MLPHead


def data(count: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    levels = torch.randn(count, 6).abs() * torch.tensor([1.0, 10, 100, 1e-3, 1, 1]) + 5
    return levels, 5.5 + 0.8 * (levels[:, 1] - levels[:, 1].mean()) / levels[:, 1].std()


def test_starts_at_the_training_mean_in_the_datas_units() -> None:
    levels, mos = data()
    head = MLPHead(MosConfig(), 6).eval()
    unknown = mos.clone()
    unknown[::3] = float("nan")
    head.fit_scale(levels, unknown)
    known = unknown[~unknown.isnan()]
    torch.testing.assert_close(head(levels), known.mean().expand(200))
    torch.testing.assert_close(head.standard(known).mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(head.standard(known).std(correction=0), torch.tensor(1.0))


@pytest.mark.parametrize("hidden", [0, 16])
def test_learns_whatever_the_statistics_scales(hidden: int) -> None:
    torch.manual_seed(0)
    levels, mos = data()
    head = MLPHead(MosConfig(hidden=hidden, dropout=0.0), 6)
    head.fit_scale(levels, mos)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        (head(levels) - mos).square().mean().backward()
        optimizer.step()
    assert torch.corrcoef(torch.stack([head.eval()(levels), mos]))[0, 1] > 0.97


def test_constant_and_odd_statistics_give_finite_mos() -> None:
    head = MLPHead(MosConfig(), 6).eval()
    head.fit_scale(torch.full((4, 6), 2.0), torch.full((4,), 3.0))
    odd = torch.tensor([[0.0, 1e9, -1e9, 2.0, 2.0, 2.0]])
    assert torch.isfinite(head(odd)).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert head(odd.half().clamp(-6e4, 6e4)).dtype == torch.float32


def test_rounding_of_silent_statistics_hardly_matters() -> None:
    levels, mos = data()
    levels[:, 5] = 0.0
    head = MLPHead(MosConfig(hidden=0), 6).eval()
    head.fit_scale(levels, mos)
    torch.nn.init.ones_(head.body[-1].weight)
    rounded = levels.clone()
    rounded[:, 5] = 4e-9
    torch.testing.assert_close(head(rounded), head(levels), atol=5e-3, rtol=0)


def test_scales_are_kept_in_the_state() -> None:
    levels, mos = data()
    head, other = MLPHead(MosConfig(), 6).eval(), MLPHead(MosConfig(), 6).eval()
    head.fit_scale(levels, mos)
    torch.nn.init.normal_(head.body[-1].weight)
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other(levels), head(levels))
