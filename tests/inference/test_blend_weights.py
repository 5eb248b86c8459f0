"""Learned weights: they find the better members, and gain nothing on labels that mean nothing."""

import numpy as np
import pytest

from src.inference.blend_weights import (
    LEARNERS,
    OUTER_FOLDS,
    BlendWeights,
    cross_fit,
    fit_variant,
    learn_weights,
    qualities,
    quality,
)
from src.inference.blending import blend_mos


def members(noise: list[float], images: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions [M, P] with noise of these standard deviations, and true mos [P]."""
    rng = np.random.default_rng(seed)
    true = rng.normal(5.5, 0.8, images)
    return true + rng.normal(size=(len(noise), images)) * np.array(noise)[:, None], true


def test_least_squares_weigh_by_the_inverse_of_the_variance() -> None:
    """Of unbiased predictions with independent noise the best linear blend has weights in that proportion."""
    values, true = members([0.5, 1.0, 2.0], images=20_000)
    weights = fit_variant(values, true, "nnls", "mean").weights
    np.testing.assert_allclose(weights, np.array([4, 1, 0.25]) / 5.25, atol=0.02)


def test_the_quality_of_many_rows_is_that_of_each() -> None:
    values, true = members([0.5, 1.0, 2.0], images=50)
    rows = np.stack([*values.round(1), np.full(50, 5.0)])  # with ties
    np.testing.assert_allclose(qualities(rows, true), [quality(row, true) for row in rows], atol=1e-12)


def test_greedy_selection_is_as_good_as_a_search_of_the_whole_grid() -> None:
    values, true = members([0.5, 0.8])
    grid = [quality(share * values[0] + (1 - share) * values[1], true) for share in np.linspace(0, 1, 21)]
    greedy = fit_variant(values, true, "greedy", "mean")
    assert quality(greedy.blend(values), true) >= max(grid) - 1e-3
    assert sum(greedy.weights) == pytest.approx(1)


@pytest.mark.parametrize("learner", LEARNERS)
def test_ranks_do_not_mind_a_members_scale(learner: str) -> None:
    values, true = members([0.5, 0.8, 1.0], images=300)
    stretched = np.stack([values[0], np.exp(values[1]), 100 + 9 * values[2]])
    weights = fit_variant(values, true, learner, "rank").weights
    if learner != "greedy":  # whose quality holds PLCC, which sees the scale
        np.testing.assert_allclose(fit_variant(stretched, true, learner, "rank").weights, weights)
    blended = BlendWeights(learner, "rank", weights).blend(values)
    np.testing.assert_allclose(blended, blend_mos(values, "rank", weights=np.array(weights)))


def test_a_member_against_the_truth_weighs_nothing() -> None:
    values, true = members([0.5, 0.5])
    for learner in ("greedy", "nnls"):
        weights = fit_variant(np.stack([values[0], -values[1]]), true, learner, "mean").weights
        assert weights == (1.0, 0.0)
    assert fit_variant(-values, true, "nnls", "mean").weights == (0.5, 0.5)


def test_the_outer_loop_scores_images_that_no_weight_was_learned_from() -> None:
    """Each fold's truth is out of sight: with another one, its blended mos are the same."""
    values, true = members([0.4, 1.5, 1.5], images=200)
    mos, fold = cross_fit(values, true, learn_weights, OUTER_FOLDS, np.random.default_rng(0))
    assert sorted(np.bincount(fold)) == [40] * OUTER_FOLDS
    inside = fold == 3
    changed = np.where(inside, true[::-1], true)
    other, same_fold = cross_fit(values, changed, learn_weights, OUTER_FOLDS, np.random.default_rng(0))
    np.testing.assert_array_equal(fold, same_fold)
    np.testing.assert_array_equal(mos[inside], other[inside])
    assert (mos[~inside] != other[~inside]).any()
