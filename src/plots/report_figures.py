"""Figures that only a report draws; as in plots.py, without pyplot, and to be read in black and white."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, ScalarFormatter

from src.plots.figures import (
    COLOURS,
    STYLES,
    Array,
    Series,
    axis_limits,
    draw_curves,
    finite_pairs,
    make_figure,
    tidy_axes,
)

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SHADES = ("#0b559f", "#c44e00", "#1b7837", "#5a3d8a", "#222222", "#b8860b", "#7aa6d8", "#d98aa5")
MOST_BINS = 10


def curve_panels(groups: Mapping[str, Series], x: str = "step", columns: int = 3) -> Figure:
    """Small curves side by side: a panel a loss or score, a line a series, told apart by style and marker.

    Args:
        groups: title of a panel -> name -> (x, y) points.
        x: label of the horizontal axes.
        columns: panels in a row.
    """
    columns = min(columns, max(1, len(groups)))
    rows = max(1, -(-len(groups) // columns))
    figure, axes = make_figure(3.7 * columns, 2.7 * rows, rows, columns)
    for one in axes[len(groups) :]:
        one.set_axis_off()
    for one, (title, series) in zip(axes, groups.items(), strict=False):
        draw_curves(one, series, zip(SHADES, STYLES * 2, strict=True), markersize=2.5, linewidth=1.1)
        tidy_axes(one, x, "", title)
        if len(series) > 1:
            one.legend(frameon=False, fontsize=7)
    return figure


def calibration(true: Array, predicted: Array, title: str = "") -> Figure:
    """Mean true mos of photos predicted alike (at most ten equal groups), with the mean's 95 % interval.

    Args:
        true: [N] mos, in the data's units.
        predicted: [N] likewise.
        title: above the axes; empty: none.
    """
    true, predicted = finite_pairs(true, predicted)
    figure, (axes,) = make_figure(4.6, 4.6)
    if len(true):
        groups = np.array_split(np.argsort(predicted, kind="stable"), min(MOST_BINS, len(true)))
        x, y = (np.array([values[rows].mean() for rows in groups]) for values in (predicted, true))
        error = np.array([1.96 * true[rows].std(ddof=len(rows) > 1) / np.sqrt(len(rows)) for rows in groups])
        axes.errorbar(x, y, yerr=error, fmt="o-", color=COLOURS[0], markersize=4, linewidth=1, capsize=3)
        low, high = axis_limits(np.concatenate([x, y - error, y + error]))
        axes.plot([low, high], [low, high], color="0.4", linewidth=1, linestyle="--")
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    tidy_axes(axes, "predicted mos, mean of a tenth", "true mos, mean and 95 % interval", title)
    return figure


def caption_lengths(groups: Mapping[str, Sequence[int]]) -> Figure:
    """How long captions are, in words: a line of shares for each group of captions.

    Args:
        groups: name -> words of each caption.
    """
    figure, (axes,) = make_figure(5.4, 3.6)
    most = max((max(counts) for counts in groups.values() if len(counts)), default=1)
    looks = cycle(zip(SHADES, STYLES * 2, strict=True))
    for (name, counts), (colour, style) in zip(groups.items(), looks, strict=False):
        if len(counts):
            shares = np.bincount(counts, minlength=most + 1) / len(counts)
            label = f"{name}, mean {np.mean(counts):.1f}"
            axes.step(range(most + 1), shares, style, where="mid", color=colour, linewidth=1.3, label=label)
    if groups:
        axes.legend(frameon=False, fontsize=8)
    tidy_axes(axes, "words", "share of captions")
    return figure


def embedding_scatter(points: Array, mos: Array, groups: Sequence[int], names: Sequence[str], title: str) -> Figure:
    """Photos as points of a plane, twice: the darker, the higher their mos; and by caption cluster.

    Args:
        points: [P, 2].
        mos: [P], NaN where unknown.
        groups: [P] numbers of clusters, -1 for none; empty: no captions, so one panel.
        names: of the clusters.
        title: above the first panel.
    """
    count = 2 if len(groups) else 1
    figure, axes = make_figure(5.6 * count, 5.0, 1, count)
    known = np.isfinite(mos)
    size = dot_size(len(points))
    axes[0].plot(*points[~known].T, "o", color="0.85", markersize=size, markeredgewidth=0, label="no mos")
    if known.any():
        drawn = axes[0].scatter(
            points[known, 0], points[known, 1], c=mos[known], cmap="cividis_r", s=size**2, linewidths=0
        )
        figure.colorbar(drawn, ax=axes[0], label="mos", shrink=0.8)
    axes[0].set_title(f"{title}, by mos", fontsize=10)
    if count == 2:
        draw_groups(axes[1], points, np.asarray(groups), names)
        axes[1].set_title(f"{title}, by caption cluster", fontsize=10)
    for one in axes[:count]:
        one.set(xticks=[], yticks=[])
        one.spines[:].set_color("0.8")
    return figure


def draw_groups(axes: Axes, points: Array, groups: np.ndarray, names: Sequence[str]) -> None:
    """Points with a marker and colour of their cluster; the legend lies below."""
    size = dot_size(len(points))
    axes.plot(*points[groups < 0].T, ".", color="0.85", markersize=size)
    for i, (name, marker, colour) in enumerate(zip(names, cycle(MARKERS), cycle(SHADES), strict=False)):
        axes.plot(*points[groups == i].T, marker, color=colour, markersize=size, markeredgewidth=0, label=name)
    axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2)


def dot_size(count: int) -> float:
    """Points across of a marker, the smaller, the more there are."""
    return float(np.clip(120 / np.sqrt(max(count, 1)), 2.8, 6.5))


def score_bars(values: Mapping[str, tuple[float, float | None, float | None]], title: str) -> Figure:
    """A score of several models with its 95 % intervals, the first on top.

    Args:
        values: model -> score, low, high; low and high None where there is no interval.
        title: the score.
    """
    figure, (axes,) = make_figure(4.6, 0.9 + 0.32 * len(values))
    for i, (value, low, high) in enumerate(reversed(list(values.values()))):
        axes.barh(i, value, color="0.8", height=0.65)
        if low is not None and high is not None:
            axes.plot([low, high], [i, i], "|-", color="black", linewidth=1.2, markersize=6)
    axes.set_yticks(range(len(values)), list(reversed(list(values))), fontsize=8)
    most = max(value for value, _, _ in values.values())
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if most >= 1000 else ScalarFormatter())
    tidy_axes(axes, title, "")
    return figure


def rank_table(shares: Mapping[str, Sequence[float]], title: str) -> Figure:
    """How often each model takes each rank: rows of squares, the darker the more often, with their percentages.

    Args:
        shares: model -> share of resamples with rank 1, 2, ...
        title: the board.
    """
    table = np.array(list(shares.values()), dtype=float).reshape(len(shares), -1)
    figure, (axes,) = make_figure(2.2 + 0.75 * table.shape[1], 1.0 + 0.45 * len(shares))
    axes.imshow(table, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        dark = "white" if value > 0.5 else "0.1"
        axes.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=8, color=dark)
    axes.set_xticks(range(table.shape[1]), [str(i + 1) for i in range(table.shape[1])])
    axes.set_yticks(range(len(shares)), list(shares), fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("rank")
    return figure
