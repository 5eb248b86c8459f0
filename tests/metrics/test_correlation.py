"""Correlations against their definitions and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from src.metrics.correlation import krcc, plcc, rmse, srcc


def data(ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    true = rng.normal(5.5, 0.8, 300)
    pred = true + rng.normal(0, 0.5, 300)
    return (np.round(pred, 0), np.round(true, 0)) if ties else (pred, true)


@pytest.mark.parametrize("ties", [False, True])
def test_equal_scipy(ties: bool) -> None:
    pred, true = data(ties)
    assert plcc(pred, true) == pytest.approx(stats.pearsonr(pred, true).statistic, abs=1e-12)
    assert srcc(pred, true) == pytest.approx(stats.spearmanr(pred, true).statistic, abs=1e-12)


def test_krcc_counts_pairs() -> None:
    pred, true = (x[:40] for x in data())
    signs = [np.sign((pred[i] - pred[j]) * (true[i] - true[j])) for i in range(40) for j in range(i)]
    assert krcc(pred, true) == pytest.approx(np.mean(signs), abs=1e-12)


def test_rmse_by_hand() -> None:
    assert rmse([1, 2, 3], [1, 4, 6]) == pytest.approx(math.sqrt(13 / 3))


@pytest.mark.parametrize("score", [plcc, srcc, krcc])
def test_undefined_correlations_are_0(score) -> None:
    assert score([5.5, 5.5, 5.5], [1, 2, 3]) == 0.0
    assert score([1, 2, 3], [4, 4, 4]) == 0.0
    assert score([1], [2]) == 0.0
    assert score([], []) == 0.0


def test_a_constant_with_rounding_noise_in_its_mean_is_a_constant() -> None:
    assert plcc([0.1] * 3000, np.arange(3000)) == 0.0


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_plcc_survives_extreme_scales(scale: float) -> None:
    pred, true = data()
    assert plcc(pred * scale, true) == pytest.approx(plcc(pred, true), abs=1e-9)


@pytest.mark.parametrize("score", [plcc, srcc, krcc, rmse])
def test_bad_input_is_refused(score) -> None:
    with pytest.raises(ValueError, match="2 predicted mos but 3"):
        score([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="finite"):
        score([1, float("nan")], [1, 2])
