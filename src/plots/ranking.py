"""Models side by side: bars of a score with intervals, and a table of ranks."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, ScalarFormatter

from src.plots.axes import make_figure, tidy_axes


def plot_score_bars(values: Mapping[str, tuple[float, float | None, float | None]], title: str) -> Figure:
    """A score of several models, the first on top; values: model -> score and the ends of its interval or None."""
    figure, (axes,) = make_figure(4.6, 0.9 + 0.32 * len(values))
    for i, (value, low, high) in enumerate(reversed(list(values.values()))):
        axes.barh(i, value, color="0.8", height=0.65)
        if low is not None and high is not None:
            axes.plot([low, high], [i, i], "|-", color="black", linewidth=1.2, markersize=6)
    axes.set_yticks(range(len(values)), list(reversed(list(values))), fontsize=8)
    largest = max(value for value, _, _ in values.values())
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if largest >= 1000 else ScalarFormatter())
    tidy_axes(axes, title, "")
    return figure


def plot_rank_table(shares: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Rows of squares with percentages, darker for a larger share; shares: model -> share of rank 1, 2, ..."""
    table = np.array(list(shares.values()), dtype=float).reshape(len(shares), -1)
    figure, (axes,) = make_figure(2.2 + 0.75 * table.shape[1], 1.0 + 0.45 * len(shares))
    axes.imshow(table, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        colour = "white" if value > 0.5 else "0.1"
        axes.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(table.shape[1]), [str(i + 1) for i in range(table.shape[1])])
    axes.set_yticks(range(len(shares)), list(shares), fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("rank")
    return figure
