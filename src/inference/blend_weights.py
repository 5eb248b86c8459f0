"""Weights of a blend of mos, learned from predictions for images that no member was trained on.

A variant is a way to learn weights (equal, greedy, nnls) and a scale to blend on (mean of values or of ranks). One is
chosen by cross-validation; choice and weights together are scored on the folds of an outer loop, which take no part in
either.

Notation: M members, P images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.stats import rankdata

from src.inference.blending import blend_mos, value_at_rank
from src.metrics.bootstrap import bootstrap
from src.metrics.challenge import quality_score
from src.metrics.correlation import plcc, resampled_plcc, resampled_srcc, srcc

ROUNDS = 20  # of the greedy selection; its weights are multiples of at least 1 / ROUNDS
ENOUGH = 10_000  # images for the weights of some members; more cost time alone
OUTER_FOLDS, INNER_FOLDS = 5, 3


@dataclass(frozen=True)
class BlendWeights:
    """How to blend mos: a variant and its weights.

    Attributes:
        learner: equal, greedy or nnls.
        method: mean or rank, see `blend_mos`.
        weights: of the M members, at least 0; their sum is 1.
    """

    learner: str
    method: str
    weights: tuple[float, ...]

    def blend(self, values: np.ndarray) -> np.ndarray:
        """mos [P] of the members' mos [M, P]."""
        return blend_mos(values, self.method, weights=np.array(self.weights))


Learner = Callable[[np.ndarray, np.ndarray, np.random.Generator], BlendWeights]
"""Learns from values [M, P] and true mos [P]."""


def learn_weights(values: np.ndarray, true: np.ndarray, rng: np.random.Generator) -> BlendWeights:
    """The variant with the best cross-validated quality, with weights from all of its images, ENOUGH at most.

    The plain mean stays unless the best one is better by a standard error (the rule of Breiman et al. 1984).

    Args:
        values: [M, P] predicted mos.
        true: [P] true mos.
        rng: draws images and folds.
    """
    if len(true) > ENOUGH:
        rows = rng.choice(len(true), ENOUGH, replace=False)
        values, true = values[:, rows], true[rows]
    seed = int(rng.integers(2**32))  # the same folds for all variants
    blends = {variant: _held_out(values, true, variant, seed) for variant in VARIANTS}
    best = max(VARIANTS, key=lambda variant: round(quality(blends[variant], true), 6))
    return fit_variant(values, true, *(best if is_better(blends[best], blends[PLAIN], true) else PLAIN))


def is_better(mos: np.ndarray, other: np.ndarray, true: np.ndarray) -> bool:
    """Whether the quality of mos [P] exceeds that of other mos [P] by more than its standard error (bootstrap)."""

    def gain(weights: np.ndarray) -> dict[str, np.ndarray]:
        ours, theirs = (
            quality_score(resampled_plcc(weights, x, true), resampled_srcc(weights, x, true)) for x in (mos, other)
        )
        return {"gain": np.asarray(ours - theirs)}

    error = bootstrap(gain, len(true), resamples=200)["gain"].std()
    return quality(mos, true) - quality(other, true) > error


def cross_fit(
    values: np.ndarray, true: np.ndarray, learn: Learner, folds: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Blended mos [P] where each fold's weights are learned from the other folds, and each image's fold [P]."""
    fold = rng.permutation(len(true)) % folds
    blended = np.empty(len(true))
    for number in range(folds):
        inside = fold == number
        blended[inside] = learn(values[:, ~inside], true[~inside], rng).blend(values[:, inside])
    return blended, fold


def fit_variant(values: np.ndarray, true: np.ndarray, learner: str, method: str) -> BlendWeights:
    """The weights of a variant from all images."""
    weights = LEARNERS[learner](values, true, method)
    return BlendWeights(learner, method, tuple((weights / weights.sum()).tolist()))


def equal_weights(values: np.ndarray, true: np.ndarray, method: str) -> np.ndarray:
    """The same weight for all members: [M]."""
    return np.ones(len(values))


def greedy_weights(values: np.ndarray, true: np.ndarray, method: str) -> np.ndarray:
    """How often each member was selected: [M].

    Greedy selection with replacement (Caruana et al. 2004): each round adds the member that gives the blend with the
    highest quality; the best round counts.
    """
    scaled, ordered = rankdata(values, axis=1), np.sort(values, axis=1)
    counts = best = np.zeros(len(values))
    best_score = -np.inf
    for number in range(1, ROUNDS + 1):
        candidates = counts + np.eye(len(values))
        weights = candidates / number
        blends = weights @ (scaled if method == "rank" else values)
        if method == "rank":
            blends = np.stack(list(map(value_at_rank, blends, weights @ ordered)))
        scores = qualities(blends, true)
        member = int(np.argmax(np.round(scores, 9)))
        counts = candidates[member]
        if scores[member] > best_score + 1e-9:
            best, best_score = counts, scores[member]
    return best


def nnls_weights(values: np.ndarray, true: np.ndarray, method: str) -> np.ndarray:
    """Non-negative least squares of the true mos, or of its ranks, with an intercept: [M]; equal where all are 0."""
    x, y = (rankdata(values, axis=1), rankdata(true)) if method == "rank" else (values, true)
    weights, _ = nnls((x - x.mean(axis=1, keepdims=True)).T, y - y.mean())
    return weights if weights.any() else equal_weights(values, true, method)


def quality(predicted: np.ndarray, true: np.ndarray) -> float:
    """The challenge's score of mos: mean of PLCC and SRCC, each at least 0."""
    return float(quality_score(plcc(predicted, true), srcc(predicted, true)))


def qualities(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """`quality` of each row of predicted mos [M, P]: [M]."""
    ranks = rankdata(predicted, axis=1)
    return np.asarray(quality_score(_row_correlations(predicted, true), _row_correlations(ranks, rankdata(true))))


def _row_correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row of x [M, P] with y [P]; 0 where either is constant: [M]."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean()
    norms = np.sqrt((x * x).sum(axis=1) * (y @ y))
    return np.where(norms > 0, x @ y / np.where(norms > 0, norms, 1.0), 0.0)


def _held_out(values: np.ndarray, true: np.ndarray, variant: Sequence[str], seed: int) -> np.ndarray:
    """Cross-fitted mos [P] of a variant."""
    return cross_fit(
        values, true, lambda x, y, _: fit_variant(x, y, *variant), INNER_FOLDS, np.random.default_rng(seed)
    )[0]


LEARNERS = {"equal": equal_weights, "greedy": greedy_weights, "nnls": nnls_weights}
PLAIN = ("equal", "mean")
VARIANTS = [(learner, method) for learner in LEARNERS for method in ("mean", "rank")]
