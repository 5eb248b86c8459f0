"""Bootstrap intervals against resampling the plain way, photo by photo."""

import numpy as np
import pytest
from scipy import stats

from src.metrics import bootstrap as intervals


def data(ties: bool, photos: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    true = rng.normal(5.5, 0.8, photos)
    pred = true + rng.normal(0, 0.5, photos)
    return (np.round(pred * 2) / 2, np.round(true * 2) / 2) if ties else (pred, true)


def repeated(drawn: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.repeat(x, drawn.astype(int))


@pytest.mark.parametrize("ties", [False, True])
def test_each_resample_is_scored_exactly(ties: bool) -> None:
    x, y = data(ties)
    drawn = np.concatenate(list(intervals.resample_counts(60, 20, seed=3)))
    assert drawn.shape == (20, 60)
    assert (drawn.sum(1) == 60).all()
    plcc, srcc, mean = (
        intervals.resampled_plcc(drawn, x, y),
        intervals.resampled_srcc(drawn, x, y),
        intervals.resampled_means(drawn, x),
    )
    for i, counts in enumerate(drawn):
        rx, ry = repeated(counts, x), repeated(counts, y)
        assert plcc[i] == pytest.approx(stats.pearsonr(rx, ry).statistic, abs=1e-10)
        assert srcc[i] == pytest.approx(stats.spearmanr(rx, ry).statistic, abs=1e-10)
        assert mean[i] == pytest.approx(rx.mean())


@pytest.mark.parametrize("ties", [False, True])
def test_kendall_terms_count_all_pairs(ties: bool) -> None:
    x, y = data(ties)
    agree = np.sign(x[:, None] - x) * np.sign(y[:, None] - y)
    apart = [(v[:, None] != v).sum(1) for v in (x, y)]
    np.testing.assert_array_equal(intervals.kendall_terms(x, y), np.stack([agree.sum(1), *apart], axis=1))
    once = np.ones((1, 60))
    tau = stats.kendalltau(x, y).statistic
    assert intervals.resampled_krcc(once, intervals.kendall_terms(x, y))[0] == pytest.approx(tau, abs=1e-12)


def test_kendall_interval_is_that_of_the_plain_bootstrap() -> None:
    x, y = data(False, 300)
    terms = intervals.kendall_terms(x, y)
    low, high = intervals.percentile_interval(
        intervals.bootstrap(lambda w: {"k": intervals.resampled_krcc(w, terms)}, 300, 2000)["k"]
    )
    plain = stats.bootstrap(
        (x, y), lambda a, b: stats.kendalltau(a, b).statistic, paired=True, vectorized=False, n_resamples=600,
        method="percentile", random_state=0,
    ).confidence_interval  # fmt: skip
    # The plain way also counts a photo against its own copies as ties, which moves it a little.
    assert high - low == pytest.approx(plain.high - plain.low, rel=0.15)
    assert (low, high) == pytest.approx(tuple(plain), abs=0.015)


def test_interval_of_a_mean_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    low, high = intervals.bootstrap_mean(values, resamples=4000)
    error = values.std() / np.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.15 * error)
    assert intervals.bootstrap_mean(values, seed=1) == intervals.bootstrap_mean(values, seed=1)
    assert intervals.bootstrap_mean(values, seed=1) != intervals.bootstrap_mean(values, seed=2)


def test_blocks_do_not_change_the_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "BLOCK", 100)
    blocks = list(intervals.resample_counts(30, 10, seed=0))
    assert [len(block) for block in blocks] == [3, 3, 3, 1]
    assert all((block.sum(1) == 30).all() for block in blocks)


def test_nothing_drawn_is_nan_and_left_out_of_the_bounds() -> None:
    assert np.isnan(intervals.resampled_means(np.zeros((1, 3)), np.ones(3))[0])
    assert intervals.percentile_interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(intervals.percentile_interval(np.array([np.nan]))).all()
