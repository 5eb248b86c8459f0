"""Bootstrap intervals against resampling the plain way, image by image."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from src.metrics import bootstrap as intervals
from src.metrics.base import Score, Scores
from src.metrics.bootstrap import paired_differences
from src.metrics.compute import score_images

RNG = np.random.default_rng(0)
PHOTOS = 200
TRUE = RNG.normal(5.5, 0.8, PHOTOS)
NAMES = [str(i) for i in range(PHOTOS)]
GOOD, BAD = (TRUE + RNG.normal(0, noise, PHOTOS) for noise in (0.3, 1.5))


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


def test_a_paired_difference_is_sharper_than_the_scores() -> None:
    near = GOOD + np.random.default_rng(5).normal(0, 0.02, PHOTOS)
    found = paired_differences(score_images(NAMES, GOOD, TRUE, intervals=True), score_images(NAMES, near, TRUE))
    off = found["plcc"]
    assert off.value == pytest.approx(pearsonr(GOOD, TRUE)[0] - pearsonr(near, TRUE)[0])
    rng, plain = np.random.default_rng(9), []
    for _ in range(1000):
        rows = rng.integers(0, PHOTOS, PHOTOS)
        plain.append(pearsonr(GOOD[rows], TRUE[rows])[0] - pearsonr(near[rows], TRUE[rows])[0])
    assert [off.low, off.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=1e-3)
    same = paired_differences(score_images(NAMES, GOOD, TRUE), score_images(NAMES, GOOD, TRUE))
    assert (same["srcc"].value, same["srcc"].low, same["srcc"].high) == (0.0, 0.0, 0.0)


def test_sums_of_unlike_tasks_are_not_subtracted() -> None:
    def scored(**values: float) -> Scores:
        scores = {name: Score(value) for name, value in values.items()}
        return Scores(
            scores, NAMES, resample=lambda weights: {name: np.full(len(weights), x) for name, x in values.items()}
        )

    both, other = (scored(quality=0.6, captioning=1.0, combined=one) for one in (1.5, 1.2))
    single = scored(quality=0.7, combined=0.9)
    assert list(paired_differences(both, single)) == ["quality"]
    assert list(paired_differences(single, both)) == ["quality"]
    assert paired_differences(both, other)["combined"].value == pytest.approx(0.3)
