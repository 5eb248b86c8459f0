"""Heads that are fitted at once: each against its own library, in the data's units, and whole after saving."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import energy_distance
from sklearn.linear_model import Ridge
from sklearn.svm import SVR

from src.common.errors import UserError
from src.config.schema import MosConfig
from src.models.mos_heads import gbm, ordinal, svr
from src.models.mos_heads.base import FittedHead, make_mos_head

KINDS = ["ridge", "svr", "gbm", "ordinal"]
IMAGES, SIZE = 120, 8


def make_views(images: int = IMAGES) -> tuple[torch.Tensor, torch.Tensor]:
    """Level statistics of images and their mirror images, and a mos that depends on them."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.rand(images, 1, SIZE, generator=generator) * 100 + torch.rand(images, 2, SIZE, generator=generator)
    mean = levels.mean(dim=1)
    return levels, 4 + mean[:, 0].sqrt() / 4 + (mean[:, 1] / 40).sin()


def fitted(kind: str, levels: torch.Tensor, mos: torch.Tensor, **options: Any) -> FittedHead:
    """A head of a kind after its fit."""
    if kind == "gbm":
        pytest.importorskip("lightgbm")
    head = make_mos_head(MosConfig(kind=kind, options=options), levels.shape[-1]).eval()
    assert isinstance(head, FittedHead)
    head.fit(levels, mos)
    return head


@pytest.mark.parametrize("kind", KINDS)
def test_learns_in_the_datas_units(kind: str) -> None:
    levels, mos = make_views(200)
    head = fitted(kind, levels[:150], mos[:150], **({"features": 1.0} if kind == "gbm" else {}))
    predicted = head(levels[150:].flatten(0, 1)).view(50, 2).mean(dim=1)
    assert torch.corrcoef(torch.stack([predicted, mos[150:]]))[0, 1] > 0.9
    assert (predicted - mos[150:]).abs().mean() < 0.3
    shuffled = fitted(kind, levels[:150], mos[:150].flip(0))
    chance = shuffled(levels[150:].flatten(0, 1)).view(50, 2).mean(dim=1)
    assert (chance - mos[150:]).square().mean() > 0.8 * mos[150:].var()


def test_support_vectors_are_those_of_scikit_learn() -> None:
    levels, mos = make_views()
    head = fitted("svr", levels, mos, c=2.0, epsilon=0.05, gamma=0.2)
    inputs, targets = head.inputs(levels.flatten(0, 1)), head.standard(mos).repeat_interleave(2)
    model = SVR(C=2.0, epsilon=0.05, gamma=0.2).fit(inputs.numpy(), targets.numpy())
    np.testing.assert_allclose(head.scaled(inputs).numpy(), model.predict(inputs.numpy()), atol=5e-3)
    assert 0 < len(head.support) < len(inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("alpha", [0.0, 30.0])
def test_ridge_is_that_of_scikit_learn(alpha: float) -> None:
    levels, mos = make_views()
    mos = mos + torch.randn(IMAGES)
    head = fitted("ridge", levels, mos, alpha=alpha)
    inputs, targets = head.inputs(levels.flatten(0, 1)).view(IMAGES, 2, -1).mean(dim=1).numpy(), head.standard(mos)
    chosen = alpha or min(10.0 ** np.arange(0, 7.25, 0.25), key=lambda value: leave_one_out(inputs, targets, value))
    expected = Ridge(chosen).fit(inputs, targets).predict(inputs)
    np.testing.assert_allclose(head.scaled(torch.from_numpy(inputs)).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["ridge", "ordinal", "svr"])
def test_a_weight_of_2_is_an_image_given_twice(kind: str) -> None:
    levels, mos = make_views()
    options = {"gamma": 0.2} if kind == "svr" else {"alpha": 5.0}
    weight = torch.ones(IMAGES)
    weight[:30] = 2.0
    twice = [torch.cat([x, x[:30]]) for x in (levels, mos)]
    whole = fitted(kind, *twice, **options)
    head = make_mos_head(MosConfig(kind=kind, options=options), SIZE).eval()
    assert isinstance(head, FittedHead)
    inputs = whole.inputs(levels.flatten(0, 1)).view(IMAGES, 2, SIZE)
    head.fit_inputs(inputs, whole.standard(mos), weight)
    np.testing.assert_allclose(head.scaled(inputs[:, 0]).numpy(), whole.scaled(inputs[:, 0]).numpy(), atol=1e-3)


def test_trees_take_weights() -> None:
    pytest.importorskip("lightgbm")
    levels, mos = make_views()
    head = make_mos_head(MosConfig(kind="gbm", options={"trees": 1, "leaves": 2, "learning_rate": 1.0}), SIZE).eval()
    assert isinstance(head, FittedHead)
    head.fit(levels, mos, (mos > mos.median()).float() + 1e-6)  # the tree's mean is that of the photos with a weight
    assert head(levels[:, 0]).mean() > mos.mean() + 0.5 * mos.std()


def leave_one_out(inputs: np.ndarray, targets: torch.Tensor, alpha: float) -> float:
    """The squared error of each row's prediction by a model of all others."""
    centred, y = np.c_[np.ones(len(inputs)), inputs - inputs.mean(axis=0)].astype(float), targets.numpy().astype(float)
    penalty = alpha * np.diag([0.0] + [1.0] * inputs.shape[1])
    hat = centred @ np.linalg.solve(centred.T @ centred + penalty, centred.T)
    return float(np.mean(((y - hat @ y) / (1 - np.diag(hat))) ** 2))


def test_the_error_of_an_ordinal_head_is_the_earth_movers_distance() -> None:
    levels, mos = make_views()
    head = fitted("ordinal", levels, mos, bins=6)
    assert isinstance(head, ordinal.OrdinalHead)
    above = head.probabilities_above(head.standard(mos))
    torch.testing.assert_close(head.low + head.width * above.sum(dim=1), head.standard(mos))  # the mean is mos
    edges = np.arange(7)
    masses = [-np.diff([1.0, *row, 0.0]) for row in above.double().numpy()]  # of the edges of the bins
    squares = [cramer_distance(edges, masses[i], masses[i + 1]) for i in range(20)]
    np.testing.assert_allclose((above[:20] - above[1:21]).square().sum(dim=1), squares, atol=1e-4)


def cramer_distance(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """The sum of squared differences of two cumulative distributions: half the square of SciPy's energy distance."""
    return float(energy_distance(values, values, np.clip(first, 0, None), np.clip(second, 0, None)) ** 2 / 2)


def test_trees_are_those_of_lightgbm() -> None:
    levels, mos = make_views()
    head = fitted("gbm", levels, mos, trees=30, leaves=5, features=0.5, leaf_photos=3)
    inputs, targets = head.inputs(levels.flatten(0, 1)), head.standard(mos).repeat_interleave(2)
    booster = head._train(inputs.numpy(), targets.numpy())  # type: ignore[operator]
    np.testing.assert_allclose(head.scaled(inputs).numpy(), booster.predict(inputs.numpy()), atol=1e-5)
    assert head.feature.shape == (30, 9)


def test_gbm_without_lightgbm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    with pytest.raises(UserError, match="gbm needs LightGBM; install it: pip install"):
        make_mos_head(MosConfig(kind="gbm"), SIZE).fit(*make_views())  # type: ignore[operator]


def test_a_tree_without_a_split_is_its_value() -> None:
    feature, threshold, branches, value = gbm.tree_arrays({"leaf_value": 1.5}, 2)
    head = gbm.GBMHead(MosConfig(kind="gbm", options={"leaves": 2}), SIZE)
    head.feature, head.threshold, head.branches, head.value = (x[None] for x in (feature, threshold, branches, value))
    assert head.scaled(torch.randn(3, SIZE)).tolist() == [1.5] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_the_whole_head(kind: str, tmp_path: Path) -> None:
    levels, mos = make_views()
    head = fitted(kind, levels, mos)
    save_file({name: value.contiguous() for name, value in head.state_dict().items()}, tmp_path / "head.safetensors")
    other = make_mos_head(MosConfig(kind=kind), SIZE).eval()
    other.load_state_dict(load_file(tmp_path / "head.safetensors"))
    assert torch.equal(other(levels[:, 0]), head(levels[:, 0]))
    with pytest.raises(RuntimeError, match="size mismatch for center"):
        make_mos_head(MosConfig(kind=kind), SIZE + 1).load_state_dict(head.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_few_constant_and_odd_images_give_finite_mos(kind: str) -> None:
    head = fitted(kind, torch.full((2, 1, SIZE), 2.0), torch.full((2,), 3.0))
    assert torch.isfinite(head(torch.tensor([[0.0, 1e9, -1e9, 2.0, 2.0, 2.0, 0.0, 0.0]]))).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert head(torch.ones(1, SIZE)).dtype == torch.float32
    with pytest.raises(UserError, match="two or more photos"):
        head.fit(torch.ones(1, 2, SIZE), torch.ones(1))


def test_too_many_rows_for_a_kernel_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svr, "MOST_ROWS", 100)
    with pytest.raises(UserError, match="svr takes 100 photos with their mirror images, not 240; choose ridge"):
        fitted("svr", *make_views())
