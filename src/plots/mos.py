"""Predicted against true mos: scatter, residuals and calibration.

All three take `true` and `predicted`, each [N] in the data's units, and leave out images where either is not finite.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.metrics.correlation import plcc, srcc
from src.plots.axes import COLOURS, Array, make_figure, tidy_axes

MAX_BINS = 10  # of the calibration


def plot_mos_scatter(true: Array, predicted: Array, title: str = "") -> Figure:
    """Predicted against true mos, with the diagonal and both correlations."""
    true, predicted = finite_pairs(true, predicted)
    figure, (axes,) = make_figure(4.6, 4.6)
    opacity = float(np.clip(250 / max(len(true), 1), 0.15, 0.8))
    axes.plot(true, predicted, "o", color=COLOURS[0], markersize=3, alpha=opacity, markeredgewidth=0)
    if len(true):
        draw_diagonal(axes, np.concatenate([true, predicted]))
    text = f"{len(true):,} photos"
    if len(true) > 2 and true.std() and predicted.std():
        text += f"\nPLCC {plcc(predicted, true):.3f}\nSRCC {srcc(predicted, true):.3f}"
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=9)
    tidy_axes(axes, "true mos", "predicted mos", title)
    return figure


def plot_mos_residuals(true: Array, predicted: Array, title: str = "") -> Figure:
    """Histogram of predicted - true mos, with its mean and standard deviation."""
    true, predicted = finite_pairs(true, predicted)
    residuals = predicted - true
    figure, (axes,) = make_figure(5.0, 3.6)
    if len(residuals):
        bins = min(40, max(5, int(np.sqrt(len(residuals)))))
        axes.hist(residuals, bins=bins, color="0.75", edgecolor="white", linewidth=0.5)
        axes.axvline(float(residuals.mean()), color=COLOURS[1])
        title = f"{title} mean {residuals.mean():+.3f}, deviation {residuals.std():.3f}".strip()
    axes.axvline(0, color="0.3", linewidth=1, linestyle="--")
    tidy_axes(axes, "predicted - true mos", "photos", title)
    return figure


def plot_mos_calibration(true: Array, predicted: Array, title: str = "") -> Figure:
    """Mean true mos of images with similar predictions (at most ten equal groups), with the mean's 95 % interval."""
    true, predicted = finite_pairs(true, predicted)
    figure, (axes,) = make_figure(4.6, 4.6)
    if len(true):
        groups = np.array_split(np.argsort(predicted, kind="stable"), min(MAX_BINS, len(true)))
        x, y = (np.array([values[rows].mean() for rows in groups]) for values in (predicted, true))
        error = np.array([1.96 * true[rows].std(ddof=len(rows) > 1) / np.sqrt(len(rows)) for rows in groups])
        axes.errorbar(x, y, yerr=error, fmt="o-", color=COLOURS[0], markersize=4, linewidth=1, capsize=3)
        draw_diagonal(axes, np.concatenate([x, y - error, y + error]))
    tidy_axes(axes, "predicted mos, mean of a tenth", "true mos, mean and 95 % interval", title)
    return figure


def finite_pairs(true: Array, predicted: Array) -> tuple[Array, Array]:
    """Both without the entries where either is not a finite number."""
    true, predicted = np.asarray(true, dtype=float), np.asarray(predicted, dtype=float)
    finite = np.isfinite(true) & np.isfinite(predicted)
    return true[finite], predicted[finite]


def draw_diagonal(axes: Axes, values: Array) -> None:
    """Makes the axes square over the range of the values, with a margin of 4 %, and draws the diagonal."""
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 0.5
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color="0.4", linewidth=1, linestyle="--")
    axes.set(xlim=ends, ylim=ends, aspect="equal")
