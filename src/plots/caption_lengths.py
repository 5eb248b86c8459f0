"""How long captions are, in words."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from src.plots.axes import line_looks, make_figure, tidy_axes


def plot_caption_lengths(groups: Mapping[str, Sequence[int]]) -> Figure:
    """The share of captions of each length: a line for each group; groups: name -> words of each caption."""
    figure, (axes,) = make_figure(5.4, 3.6)
    longest = max((max(counts) for counts in groups.values() if len(counts)), default=1)
    for (name, counts), (colour, style) in zip(groups.items(), line_looks(), strict=False):
        if len(counts):
            shares = np.bincount(counts, minlength=longest + 1) / len(counts)
            label = f"{name}, mean {np.mean(counts):.1f}"
            axes.step(range(longest + 1), shares, style, where="mid", color=colour, linewidth=1.3, label=label)
    tidy_axes(axes, "words", "share of captions", legend=bool(groups))
    return figure
