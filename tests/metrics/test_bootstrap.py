"""Bootstrap intervals against resampling the plain way, image by image."""

import numpy as np
import pytest

from src.metrics import bootstrap as intervals


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
