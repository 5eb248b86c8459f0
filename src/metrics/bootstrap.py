"""95 % bootstrap intervals over images (Efron 1979, percentile method), and the paired bootstrap of two models.

Images are drawn with replacement. Scores are made of terms that add up over images (BLEU's counts, sums of squares for
PLCC, a mean's terms), so a resample is a vector of how often each image was drawn, times a table of those terms: the
captions are counted once, whatever the number of resamples. Exceptions:
- SRCC ranks each resample exactly, from the drawing counts in sorted order.
- KRCC is resampled to first order, not pair by pair (see correlation.py).
- CIDEr-D keeps the document frequencies of the whole set.
- METEOR's corpus score is of summed counts; its interval is that of the images' mean, shifted to the corpus score.

Notation: P images, B resamples in a block, T terms.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from src.metrics.base import Score, Scores
from src.metrics.challenge import TASKS

LEVEL = 0.95
BLOCK = 2**19  # drawing counts in memory at a time: 4 MB


def resample_counts(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, [B, P] float64 at a time; the same for the same seed."""
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // max(images, 1))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, images, size=(size, images)) + np.arange(size)[:, None] * images
        yield np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images).astype(np.float64)


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled values; those that are not finite (a resample without such images) do not count."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap(
    resample: Callable[[np.ndarray], Mapping[str, np.ndarray]], images: int, resamples: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Values of every score in every resample: name -> [resamples].

    Args:
        resample: drawing counts [B, P] -> name -> [B].
        images: P.
        resamples: how many.
        seed: the same one draws the same images.
    """
    blocks = [dict(resample(block)) for block in resample_counts(images, resamples, seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]} if blocks else {}


def bootstrap_mean(values: np.ndarray, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of any per-image score [P]."""
    return percentile_interval(
        bootstrap(lambda w: {"mean": resampled_means(w, values)}, len(values), resamples, seed)["mean"]
    )


def resampled_means(drawn: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of per-image values [P] or [P, T] in each resample [B, P]: [B] or [B, T]; NaN where nothing was drawn."""
    many = drawn.sum(1)
    many = np.where(many > 0, many, np.nan)
    return (drawn @ values) / (many if values.ndim == 1 else many[:, None])


def paired_differences(ours: Scores, theirs: Scores, resamples: int = 1000, seed: int = 0) -> dict[str, Score]:
    """Our score less theirs, for each score that both have; each resample is of the same images for both.

    `combined` is left out where one side has a task that the other lacks: on that side it is a sum of more.

    Args:
        ours: of P images.
        theirs: of the same images in the same order.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    def resample(weights: np.ndarray) -> dict[str, np.ndarray]:
        x, y = ours.resample(weights), theirs.resample(weights)
        return {name: x[name] - y[name] for name in x if name in y}

    drawn = bootstrap(resample, len(ours.names), resamples, seed)
    bounds = {name: percentile_interval(values) for name, values in drawn.items()}
    return {
        name: Score(ours.scores[name].value - theirs.scores[name].value, *bounds.get(name, (None, None)))
        for name in shared_scores(ours, theirs)
    }


def shared_scores(a: Scores, b: Scores) -> list[str]:
    """The scores that both have and that mean the same for both."""
    names = [name for name in a.scores if name in b.scores]
    same_tasks = all((task in a.scores) == (task in b.scores) for task in TASKS)
    return names if same_tasks else [name for name in names if name != "combined"]
