"""Images as points of a plane, by the coordinates of PCA or t-SNE.
Held by tests/reporting/test_embedded_images.py.
"""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.plots.axes import COLOURS, Array, make_figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def plot_embedding_scatter(
    points: Array, mos: Array, clusters: Sequence[int], names: Sequence[str], title: str
) -> Figure:
    """Two panels of the same points: the darker, the higher their mos; and by caption cluster.

    Args:
        points: [P, 2].
        mos: [P], NaN where unknown.
        clusters: [P] numbers of clusters, -1 for none; empty: no captions, so only the first panel.
        names: of the clusters.
        title: above the panels.
    """
    count = 2 if len(clusters) else 1
    figure, axes = make_figure(5.6 * count, 5.0, 1, count)
    draw_mos(figure, axes[0], points, np.asarray(mos))
    axes[0].set_title(f"{title}, by mos", fontsize=10)
    if count == 2:
        draw_clusters(axes[1], points, np.asarray(clusters), names)
        axes[1].set_title(f"{title}, by caption cluster", fontsize=10)
    for panel in axes[:count]:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_color("0.8")
    return figure


def draw_mos(figure: Figure, axes: Axes, points: Array, mos: Array) -> None:
    """Draws points [P, 2] shaded by mos [P], those without mos in light grey, and a colour bar."""
    known = np.isfinite(mos)
    size = marker_size(len(points))
    axes.plot(*points[~known].T, "o", color="0.85", markersize=size, markeredgewidth=0, label="no mos")
    if known.any():
        x, y = points[known].T
        shaded = axes.scatter(x, y, c=mos[known], cmap="cividis_r", s=size**2, linewidths=0)
        figure.colorbar(shaded, ax=axes, label="mos", shrink=0.8)


def draw_clusters(axes: Axes, points: Array, clusters: np.ndarray, names: Sequence[str]) -> None:
    """Draws points [P, 2] with the marker and colour of their cluster; the legend is below."""
    size = marker_size(len(points))
    axes.plot(*points[clusters < 0].T, ".", color="0.85", markersize=size)
    for i, (name, marker, colour) in enumerate(zip(names, cycle(MARKERS), cycle(COLOURS), strict=False)):
        axes.plot(*points[clusters == i].T, marker, color=colour, markersize=size, markeredgewidth=0, label=name)
    axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2)


def marker_size(count: int) -> float:
    """Diameter of a marker in points: smaller for more images."""
    return float(np.clip(120 / np.sqrt(max(count, 1)), 2.8, 6.5))
