"""PLCC, SRCC, KRCC and RMSE: how well predicted mos follow the true ones.

Each takes two arrays of finite numbers, one entry an image. A correlation that is undefined (fewer than two images, or
a constant on either side) is 0.0: such predictions say nothing, and a NaN would be chosen or dropped by accident later.

Resampling is exact but for KRCC, which is resampled to first order (its projection onto single images: Hoeffding 1948).
Notation: P images, B resamples in a block.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from src.metrics.base import MetricResult, MosTable, ScoreInfo, TableMetric
from src.metrics.bootstrap import resampled_means


def plcc(pred: ArrayLike, true: ArrayLike) -> float:
    """Pearson's linear correlation, -1..1.

    Raises:
        ValueError: unequal lengths, or a value that is not finite.
    """
    x, y = _checked(pred, true)
    return _pearson(x, y)


def srcc(pred: ArrayLike, true: ArrayLike) -> float:
    """Spearman's rank correlation, -1..1; ties get their mean rank. Raises as plcc."""
    x, y = _checked(pred, true)
    return _pearson(stats.rankdata(x), stats.rankdata(y)) if len(x) else 0.0


def krcc(pred: ArrayLike, true: ArrayLike) -> float:
    """Kendall's rank correlation (tau-b), -1..1. Raises as plcc."""
    x, y = _checked(pred, true)
    if _constant(x) or _constant(y):
        return 0.0
    return float(stats.kendalltau(x, y).statistic)


def rmse(pred: ArrayLike, true: ArrayLike) -> float:
    """Root of the mean squared error, in the units of mos; 0.0 for no photos. Raises as plcc."""
    x, y = _checked(pred, true)
    return float(np.sqrt(np.mean((x - y) ** 2))) if len(x) else 0.0


def _checked(pred: ArrayLike, true: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(pred, dtype=np.float64).ravel(), np.asarray(true, dtype=np.float64).ravel()
    if len(x) != len(y):
        raise ValueError(f"{len(x)} predicted mos but {len(y)} true ones")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("mos must be finite: leave out photos whose mos is unknown before scoring")
    return x, y


def _constant(x: np.ndarray) -> bool:
    return len(x) < 2 or bool((x == x[0]).all())


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    if _constant(x) or _constant(y):
        return 0.0
    # Scaled by the largest deviation first: squares of very small or very large numbers would leave the float range.
    x, y = x - x.mean(), y - y.mean()
    spread_x, spread_y = np.abs(x).max(), np.abs(y).max()
    if spread_x == 0 or spread_y == 0:
        return 0.0
    x, y = x / spread_x, y / spread_y
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def measure_correlations(table: MosTable) -> MetricResult:
    """All four scores, the correlations of two images or more, and mos_error, predicted less true, of each image."""
    x, y = table.predicted, table.true
    values = {"plcc": plcc(x, y), "srcc": srcc(x, y), "krcc": krcc(x, y)} if len(x) > 1 else {}
    values["rmse"] = rmse(x, y)
    terms = kendall_terms(x, y)

    def resample(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "plcc": resampled_plcc(weights, x, y),
            "srcc": resampled_srcc(weights, x, y),
            "krcc": resampled_krcc(weights, terms),
            "rmse": np.sqrt(resampled_means(weights, (x - y) ** 2)),
        }

    return MetricResult(values, {"mos_error": x - y}, resample)


def resampled_plcc(drawn: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """PLCC in each resample [B, P] of x and y, both [P], or [B, P] where resamples differ: [B]."""
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
    """Mean ranks [B, P] of each image's value in each resample, from -1/2 to 1/2 of its size."""
    values, group = np.unique(x, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(values)))
    tied = np.add.reduceat(drawn[:, order], starts, axis=1)
    middle = np.cumsum(tied, axis=1) - tied / 2
    size = middle[:, -1:] + tied[:, -1:] / 2
    return (middle / np.where(size > 0, size, 1.0) - 0.5)[:, group]


def kendall_terms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Each image's part in tau-b: concordant less discordant partners, partners apart in x, and in y: [P, 3]."""
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
    """How many others are below each image in both x and y: [P]; merge sort's counting, n log² n."""
    # Within equal x the highest y comes first, so that those before an image and lower in y are lower in x too.
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
    counts = np.empty_like(below)
    counts[order] = below
    return counts


METRICS = [
    TableMetric(
        scores=[
            ScoreInfo("plcc", headline=True),
            ScoreInfo("srcc", headline=True, compact=True),
            ScoreInfo("krcc", whole_only=True),
            ScoreInfo("rmse", higher_is_better=False, compact=True),
        ],
        head="mos",
        order=10,
        measure=measure_correlations,
    )
]
