"""The common parts of all plots: figures, axes, palette, curves.

Figures are made without pyplot, so that threads and workers can draw. Series differ in line style or marker as well as
in colour, so that a print in black and white is readable. Held by tests/plots/test_curves.py and the other tests
of the plots.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Series = Mapping[str, Sequence[tuple[float, float]]]
COLOURS = ("#0b559f", "#c44e00", "#1b7837", "#5a3d8a", "#222222", "#b8860b", "#7aa6d8", "#d98aa5")
LINE_STYLES = ("-", "--", ":", "-.")
MARKER_LIMIT = 40  # points of a curve that still has markers


def make_figure(width: float = 6.0, height: float = 4.0, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `width` x `height` inches at 120 dots per inch, and its axes row by row."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def make_panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels of `width` x `height` inches, at most `columns` in a row; unused axes are blank."""
    columns = min(columns, max(1, count))
    rows = max(1, -(-count // columns))
    figure, axes = make_figure(width * columns, height * rows, rows, columns)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def tidy_axes(axes: Axes, x: str, y: str, title: str = "", legend: bool = False) -> None:
    """Adds labels, a light grid and a legend, and removes the box."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if title:
        axes.set_title(title, fontsize=10)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(frameon=False, fontsize=8)


def line_looks() -> Iterator[tuple[str, str]]:
    """Colour and line style of each series in turn."""
    return cycle(zip(COLOURS, LINE_STYLES * 2, strict=True))


def draw_curves(axes: Axes, series: Series, **line: Any) -> None:
    """Draws a line for each series, with markers where it has few points."""
    for (name, points), (colour, style) in zip(series.items(), line_looks(), strict=False):
        x, y = np.array(points, dtype=float).reshape(-1, 2).T
        marker = "o" if len(points) <= MARKER_LIMIT else ""
        axes.plot(x, y, style, color=colour, marker=marker, label=name, **line)
