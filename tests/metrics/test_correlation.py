"""Correlations against their definitions and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from src.metrics import bootstrap as intervals
from src.metrics.correlation import (
    kendall_terms,
    krcc,
    plcc,
    resampled_krcc,
    resampled_plcc,
    resampled_srcc,
    rmse,
    srcc,
)


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


def resampled_data(ties: bool, photos: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    true = rng.normal(5.5, 0.8, photos)
    pred = true + rng.normal(0, 0.5, photos)
    return (np.round(pred * 2) / 2, np.round(true * 2) / 2) if ties else (pred, true)


def repeated(drawn: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.repeat(x, drawn.astype(int))


@pytest.mark.parametrize("ties", [False, True])
def test_each_resample_is_scored_exactly(ties: bool) -> None:
    x, y = resampled_data(ties)
    drawn = np.concatenate(list(intervals.resample_counts(60, 20, seed=3)))
    assert drawn.shape == (20, 60)
    assert (drawn.sum(1) == 60).all()
    plcc, srcc, mean = (
        resampled_plcc(drawn, x, y),
        resampled_srcc(drawn, x, y),
        intervals.resampled_means(drawn, x),
    )
    for i, counts in enumerate(drawn):
        rx, ry = repeated(counts, x), repeated(counts, y)
        assert plcc[i] == pytest.approx(stats.pearsonr(rx, ry).statistic, abs=1e-10)
        assert srcc[i] == pytest.approx(stats.spearmanr(rx, ry).statistic, abs=1e-10)
        assert mean[i] == pytest.approx(rx.mean())


@pytest.mark.parametrize("ties", [False, True])
def test_kendall_terms_count_all_pairs(ties: bool) -> None:
    x, y = resampled_data(ties)
    agree = np.sign(x[:, None] - x) * np.sign(y[:, None] - y)
    apart = [(v[:, None] != v).sum(1) for v in (x, y)]
    np.testing.assert_array_equal(kendall_terms(x, y), np.stack([agree.sum(1), *apart], axis=1))
    once = np.ones((1, 60))
    tau = stats.kendalltau(x, y).statistic
    assert resampled_krcc(once, kendall_terms(x, y))[0] == pytest.approx(tau, abs=1e-12)


def test_kendall_interval_is_that_of_the_plain_bootstrap() -> None:
    x, y = resampled_data(False, 300)
    terms = kendall_terms(x, y)
    low, high = intervals.percentile_interval(
        intervals.bootstrap(lambda w: {"k": resampled_krcc(w, terms)}, 300, 2000)["k"]
    )
    plain = stats.bootstrap(
        (x, y), lambda a, b: stats.kendalltau(a, b).statistic, paired=True, vectorized=False, n_resamples=600,
        method="percentile", random_state=0,
    ).confidence_interval  # fmt: skip
    # The plain way also counts a photo against its own copies as ties, which moves it a little.
    assert high - low == pytest.approx(plain.high - plain.low, rel=0.15)
    assert (low, high) == pytest.approx(tuple(plain), abs=0.015)
