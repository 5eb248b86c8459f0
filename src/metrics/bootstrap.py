"""95 % bootstrap intervals over photos (Efron 1979, percentile method) for every score at once.

Photos are drawn with replacement. What a score needs adds up over photos (BLEU's counts, sums of squares for PLCC, a
mean's terms), so a resample is a vector of how often each photo was drawn, times a table of those terms: the captions
are looked at once, whatever the number of resamples. Three remarks on what is not plainly additive:
- SRCC ranks each resample exactly, from the drawing counts in sorted order.
- KRCC is resampled to first order (its projection onto single photos: Hoeffding 1948), not pair by pair.
- CIDEr-D keeps the document frequencies of the whole set.
- METEOR's corpus score is of summed counts; its interval is that of the photos' mean, shifted to the corpus score.

Notation: P photos, B resamples in a block, T terms.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

LEVEL = 0.95
# Drawing counts in memory at one time: 2 ** 19 numbers, 4 MB.
BLOCK = 2**19

Resampled = dict[str, np.ndarray]


def resample_counts(photos: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each photo is drawn, [B, P] float64 at a time; the same for the same seed."""
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // max(photos, 1))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, photos, size=(size, photos)) + np.arange(size)[:, None] * photos
        yield np.bincount(drawn.ravel(), minlength=size * photos).reshape(size, photos).astype(np.float64)


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled values; those that are not finite (a resample without such photos) do not count."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap(
    per_draw: Callable[[np.ndarray], Mapping[str, np.ndarray]], photos: int, resamples: int = 1000, seed: int = 0
) -> Resampled:
    """Values of every score in every resample: name -> [resamples].

    Args:
        per_draw: drawing counts [B, P] -> name -> [B].
    """
    blocks = [dict(per_draw(block)) for block in resample_counts(photos, resamples, seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]} if blocks else {}


def bootstrap_mean(values: np.ndarray, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of any per-photo score [P]."""
    return percentile_interval(
        bootstrap(lambda w: {"mean": resampled_means(w, values)}, len(values), resamples, seed)["mean"]
    )


def resampled_means(drawn: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of per-photo values [P] or [P, T] in each resample [B, P]: [B] or [B, T]; NaN where nothing was drawn."""
    many = drawn.sum(1)
    many = np.where(many > 0, many, np.nan)
    return (drawn @ values) / (many if values.ndim == 1 else many[:, None])


def resampled_plcc(drawn: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """PLCC in each resample [B, P] of x and y, both [P] or one of their own for each resample [B, P]: [B]."""
    if x.ndim == 1:
        # Centred first, so that the sums of squares do not cancel.
        x, y = x - x.mean(), y - y.mean()
        mx, my, xx, yy, xy = resampled_means(drawn, np.stack([x, y, x * x, y * y, x * y], axis=1)).T
    else:
        many = drawn.sum(1)
        many = np.where(many > 0, many, np.nan)
        wx, wy = drawn * x, drawn * y
        mx, my = wx.sum(1) / many, wy.sum(1) / many
        xx, yy, xy = ((a * b).sum(1) / many for a, b in ((wx, x), (wy, y), (wx, y)))
    spread = np.sqrt(np.maximum(xx - mx**2, 0) * np.maximum(yy - my**2, 0))
    return np.where(spread > 0, (xy - mx * my) / np.where(spread > 0, spread, 1.0), 0.0)


def resampled_srcc(drawn: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """SRCC in each resample [B, P] of x and y [P]: [B]."""
    return resampled_plcc(drawn, _ranks(drawn, x), _ranks(drawn, y))


def _ranks(drawn: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Mean ranks [B, P] that each photo's value has in each resample, from -1/2 to 1/2 of its size."""
    values, group = np.unique(x, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(values)))
    tied = np.add.reduceat(drawn[:, order], starts, axis=1)
    middle = np.cumsum(tied, axis=1) - tied / 2
    size = middle[:, -1:] + tied[:, -1:] / 2
    return (middle / np.where(size > 0, size, 1.0) - 0.5)[:, group]


def kendall_terms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Each photo's part in tau-b: concordant less discordant partners, partners apart in x, and in y: [P, 3]."""
    agree = _below(x, y) + _below(-x, -y)
    differ = _below(x, -y) + _below(-x, y)
    return np.stack([agree - differ, _apart(x), _apart(y)], axis=1).astype(np.float64)


def resampled_krcc(drawn: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """KRCC in each resample [B, P], to first order, from kendall_terms [P, 3]: [B]."""
    whole = terms.mean(0)
    score, apart_x, apart_y = (whole + 2 * (resampled_means(drawn, terms) - whole)).T
    below = np.sqrt(np.maximum(apart_x, 0) * np.maximum(apart_y, 0))
    return np.where(below > 0, np.clip(score / np.where(below > 0, below, 1.0), -1, 1), 0.0)


def _apart(x: np.ndarray) -> np.ndarray:
    _, group, many = np.unique(x, return_inverse=True, return_counts=True)
    return len(x) - many[group]


def _below(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How many others lie below each photo in both x and y: [P]; merge sort's counting, n log² n."""
    # Within equal x the highest y comes first, so that those before a photo and lower in y are lower in x too.
    order = np.lexsort((-y, x))
    rank = np.unique(y, return_inverse=True)[1][order]
    size, place = len(rank), np.arange(len(rank))
    below = np.zeros(size, dtype=np.int64)
    width = 1
    while width < size:
        block = place // (2 * width)
        left = place // width % 2 == 0
        # All left halves sorted at once: block by block, ascending within.
        keys = np.sort(block[left] * size + rank[left])
        query = block[~left] * size
        lower = np.searchsorted(keys, query + rank[~left], side="left")
        below[~left] += lower - np.searchsorted(keys, query, side="left")
        width *= 2
    found = np.empty_like(below)
    found[order] = below
    return found
