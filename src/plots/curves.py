"""Curves of losses and scores over steps or epochs."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from src.plots.axes import COLOURS, Series, draw_curves, make_figure, make_panels, tidy_axes


def plot_curves(series: Series, x: str = "step", y: str = "loss", title: str = "") -> Figure:
    """Lines of (x, y) points over steps or epochs; `x` and `y` label the axes. A series of one point is a dot."""
    figure, (axes,) = make_figure()
    draw_curves(axes, series, markersize=3)
    tidy_axes(axes, x, y, title, legend=bool(series))
    return figure


def plot_curve_panels(groups: Mapping[str, Series], x: str = "step", columns: int = 3) -> Figure:
    """Small curves side by side: title of a panel -> name of a line -> (x, y) points."""
    figure, panels = make_panels(len(groups), columns, 3.7, 2.7)
    for axes, (title, series) in zip(panels, groups.items(), strict=True):
        draw_curves(axes, series, markersize=2.5, linewidth=1.1)
        tidy_axes(axes, x, "", title, legend=len(series) > 1)
    return figure


def plot_lr_range(rates: Sequence[float], losses: Sequence[float], chosen: float) -> Figure:
    """The loss over the learning rate of a range test, on a logarithmic scale, with the chosen rate."""
    figure, (axes,) = make_figure()
    axes.plot(rates, losses, color=COLOURS[0])
    axes.axvline(chosen, color=COLOURS[1], linestyle="--", label=f"chosen: {chosen:.3g}")
    axes.set_xscale("log")
    axes.set_ylim(top=losses[0] + 2 * (max(losses[0] - min(losses), 1e-9)))
    tidy_axes(axes, "learning rate", "loss", legend=True)
    return figure
