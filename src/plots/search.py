"""Plots of a hyperparameter search: objective history, importances, Pareto front, values of the parameters.

Notation: `trials` holds a dict of parameter values for each trial, which may lack some parameters; `objective` a number
for each trial, higher is better, or None where it failed; `name` is the objective's; `log` are the parameters with a
logarithmic scale.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.plots.axes import COLOURS, make_figure, make_panels, tidy_axes

LABEL_BOX = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
MAX_VALUE_TICKS = 4  # distinct numbers of a parameter that each have a tick


def plot_objective_history(objective: Sequence[float | None], name: str = "objective") -> Figure:
    """The trials in order, with the best value so far; failed trials are left out."""
    values = np.array([np.nan if value is None else value for value in objective], dtype=float)
    figure, (axes,) = make_figure(5.6, 3.6)
    numbers = np.arange(len(values))
    axes.plot(numbers, values, "o", color="0.55", markersize=4, label="trial")
    if np.isfinite(values).any():
        best = np.fmax.accumulate(values)
        axes.step(numbers, best, where="post", color=COLOURS[0], label=f"best so far: {best[-1]:.4g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy_axes(axes, "trial", name, legend=True)
    return figure


def plot_importances(shares: Mapping[str, float], name: str) -> Figure:
    """Bars: parameters by their shares in the objective's variance, of sum 1, the largest on top."""
    keys = sorted(shares, key=lambda key: shares[key])
    figure, (axes,) = make_figure(5.6, 1.0 + 0.3 * len(keys))
    bars = axes.barh(range(len(keys)), [shares[key] for key in keys], color=COLOURS[0], height=0.7)
    axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    axes.set_yticks(range(len(keys)), keys, fontsize=8)
    axes.margins(x=0.12)
    tidy_axes(axes, f"share in {name}", "")
    return figure


def plot_pareto_front(points: Sequence[tuple[float, float]], front: Sequence[int], names: Sequence[str]) -> Figure:
    """Trials by two scores, higher is better; steps join the Pareto front, whose points' numbers are `front`."""
    figure, (axes,) = make_figure(5.0, 4.2)
    axes.plot([x for x, _ in points], [y for _, y in points], "o", color="0.55", markersize=4, label="trial")
    x, y = zip(*sorted(points[i] for i in front), strict=True) if front else ((), ())
    axes.step(x, y, "s-", where="pre", color=COLOURS[0], markersize=5, label="front")
    tidy_axes(axes, names[0], names[1], legend=True)
    return figure


def plot_parameter_scatter(
    trials: Sequence[Mapping[str, Any]], objective: Sequence[float | None], name: str, log: Collection[str] = ()
) -> Figure:
    """A panel for each parameter: the objective against its value; text values are evenly spaced."""
    keys = parameter_names(trials)
    figure, panels = make_panels(len(keys), 4, 2.8, 2.6)
    for i, (axes, key) in enumerate(zip(panels, keys, strict=True)):
        points = [(t[key], o) for t, o in zip(trials, objective, strict=True) if key in t and o is not None]
        scale = ParameterScale([t[key] for t in trials if key in t], key in log)
        x, y = [scale.position(value) for value, _ in points], [score for _, score in points]
        axes.plot(x, y, "o", color=COLOURS[0], markersize=4, alpha=0.7)
        axes.set_xticks(*scale.ticks())
        axes.set_xlim(-0.08, 1.08)
        tidy_axes(axes, key, name if i % 4 == 0 else "")
    return figure


def plot_parallel_coordinates(
    trials: Sequence[Mapping[str, Any]], objective: Sequence[float | None], name: str, log: Collection[str] = ()
) -> Figure:
    """A line for each trial through its values and its objective, darker for a better one, broken at missing values."""
    finished = [({**t, name: o}, o) for t, o in zip(trials, objective, strict=True) if o is not None]
    keys = [*parameter_names(trials), name]
    scales = {key: ParameterScale([t[key] for t, _ in finished if key in t], key in log) for key in keys}
    figure, (axes,) = make_figure(max(5.0, 1.5 * len(keys)), 4.2)
    shades = ParameterScale([o for _, o in finished])
    for t, o in sorted(finished, key=lambda pair: pair[1]):
        heights = [scales[key].position(t[key]) if key in t else np.nan for key in keys]
        merit = shades.position(o)
        axes.plot(range(len(keys)), heights, color=str(0.85 * (1 - merit)), linewidth=0.6 + 1.2 * merit)
    for i, key in enumerate(keys):
        axes.axvline(i, color="0.6", linewidth=0.8, zorder=0)
        for height, label in zip(*scales[key].ticks(), strict=True):
            axes.text(i + 0.03, height, label, fontsize=7, va="center", bbox=LABEL_BOX)
    axes.set_xticks(range(len(keys)), [key.replace(".", ".\n") for key in keys], fontsize=8)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure


def plot_schedules(
    schedules: Mapping[str, Mapping[str, Sequence[tuple[float, float, Any]]]], best: str, log: Collection[str] = ()
) -> Figure:
    """A panel for each parameter that changed in training: its values over epochs, the best trial's in colour.

    Args:
        schedules: trial -> parameter -> spans (first epoch, last epoch, value), in order.
        best: the best trial.
        log: parameters with a logarithmic scale.
    """
    keys = list(schedules[best])
    figure, panels = make_panels(len(keys), 3, 3.7, 2.7)
    for axes, key in zip(panels, keys, strict=True):
        scale = ParameterScale([value for trial in schedules.values() for *_, value in trial[key]], key in log)
        for name in sorted(schedules, key=lambda name: name == best):
            x = [epoch for start, end, _ in schedules[name][key] for epoch in (start, end)]
            y = [scale.position(value) for *_, value in schedules[name][key] for _ in range(2)]
            colour, width = (COLOURS[0], 2.2) if name == best else ("0.7", 1.0)
            axes.plot(x, y, color=colour, linewidth=width)
        axes.set_yticks(*scale.ticks())
        axes.set_ylim(-0.08, 1.08)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy_axes(axes, "epochs", "", key)
    return figure


def parameter_names(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of all parameters, in order of their first use."""
    return list(dict.fromkeys(key for trial in trials for key in trial))


class ParameterScale:
    """Positions of one parameter's values within 0..1: text evenly spaced, numbers on a linear or logarithmic scale.

    Args:
        values: all values that occur, possibly none.
        log: use a logarithmic scale, where all values are above 0.
    """

    def __init__(self, values: Sequence[Any], log: bool = False) -> None:
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        self.words = [] if numeric else sorted({str(v) for v in values})
        numbers = [float(v) for v in values] if numeric and values else [0.0]
        self.tick_values = sorted(set(numbers)) if len(set(numbers)) <= MAX_VALUE_TICKS else []
        self.low, self.high = min(numbers), max(numbers)
        self.log = log and self.low > 0

    def position(self, value: Any) -> float:
        """Position of a value, 0..1; the middle where all values are the same."""
        if self.words:
            return self.words.index(str(value)) / max(1, len(self.words) - 1)
        if self.low == self.high:
            return 0.5
        if self.log:
            return float(np.log(value / self.low) / np.log(self.high / self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> tuple[list[float], list[str]]:
        """Positions and labels of up to four distinct values, else of the ends and the middle."""
        if self.words:
            return [self.position(word) for word in self.words], self.words
        if self.tick_values:
            return [self.position(value) for value in self.tick_values], [f"{value:.3g}" for value in self.tick_values]
        middle = float(np.sqrt(self.low * self.high)) if self.log else (self.low + self.high) / 2
        return [0.0, 0.5, 1.0], [f"{value:.3g}" for value in (self.low, middle, self.high)]
