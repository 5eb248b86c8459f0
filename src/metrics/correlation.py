"""How well predicted mos follow the true ones.

All take two arrays of finite numbers, one entry a photo. A correlation that is undefined (fewer than two photos, or a
constant on either side) is 0.0: such predictions say nothing, and a NaN would be chosen or dropped by accident later.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


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
