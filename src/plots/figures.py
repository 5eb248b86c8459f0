"""All that draws. Each function returns a matplotlib figure, made without pyplot, so that threads and workers can draw.

Series differ in line style or marker too, so that a print in black and white reads as well.
"""

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Series = Mapping[str, Sequence[tuple[float, float]]]
STYLES = ("-", "--", ":", "-.")
COLOURS = ("#0b559f", "#c44e00", "#1b7837", "#5a3d8a", "#444444")
TALLEST = 12  # rows of a sheet
LABEL = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}


def make_figure(width: float = 6.0, height: float = 4.0, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `width` x `height` inches at 120 dots an inch, and its axes row by row."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def tidy_axes(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Labels, a light grid, no box."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if title:
        axes.set_title(title, fontsize=10)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def curves(series: Series, x: str = "step", y: str = "loss", title: str = "") -> Figure:
    """Lines over steps or epochs: losses or scores.

    Args:
        series: name -> (x, y) points in order; a series of one point is drawn as a dot.
        x: label of the horizontal axis, with its unit.
        y: label of the vertical axis.
        title: above the axes; empty: none.
    """
    figure, (axes,) = make_figure()
    draw_curves(axes, series, zip(COLOURS, STYLES * 5, strict=False), markersize=3)
    tidy_axes(axes, x, y, title)
    if series:
        axes.legend(frameon=False, fontsize=8)
    return figure


def draw_curves(axes: Axes, series: Series, looks: Iterable[tuple[str, str]], **line: Any) -> None:
    """A line for each series, with dots where it has few points; looks are colours and styles, taken in turn."""
    for (name, points), (colour, style) in zip(series.items(), cycle(looks), strict=False):
        across, up = np.array(points, dtype=float).reshape(-1, 2).T
        marker = "o" if len(points) <= 40 else ""
        axes.plot(across, up, style, color=colour, marker=marker, label=name, **line)


def mos_scatter(true: Array, predicted: Array, title: str = "") -> Figure:
    """Predicted against true mos, with the diagonal and both correlations; photos without either are left out.

    Args:
        true: [N] mos, in the data's units.
        predicted: [N] likewise.
        title: above the axes; empty: none.
    """
    from scipy.stats import pearsonr, spearmanr

    true, predicted = finite_pairs(true, predicted)
    figure, (axes,) = make_figure(4.6, 4.6)
    faint = float(np.clip(250 / max(len(true), 1), 0.15, 0.8))
    axes.plot(true, predicted, "o", color=COLOURS[0], markersize=3, alpha=faint, markeredgewidth=0)
    if len(true):
        low, high = axis_limits(np.concatenate([true, predicted]))
        axes.plot([low, high], [low, high], color="0.4", linewidth=1, linestyle="--")
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    text = f"{len(true):,} photos"
    if len(true) > 2 and true.std() and predicted.std():
        text += f"\nPLCC {pearsonr(true, predicted)[0]:.3f}\nSRCC {spearmanr(true, predicted)[0]:.3f}"
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=9)
    tidy_axes(axes, "true mos", "predicted mos", title)
    return figure


def residuals(true: Array, predicted: Array, title: str = "") -> Figure:
    """How far predictions are off: histogram of predicted - true mos, with its mean and standard deviation.

    Args:
        true: [N] mos, in the data's units.
        predicted: [N] likewise.
        title: above the axes; empty: none.
    """
    true, predicted = finite_pairs(true, predicted)
    off = predicted - true
    figure, (axes,) = make_figure(5.0, 3.6)
    if len(off):
        axes.hist(off, bins=min(40, max(5, int(np.sqrt(len(off))))), color="0.75", edgecolor="white", linewidth=0.5)
        axes.axvline(float(off.mean()), color=COLOURS[1])
        title = f"{title} mean {off.mean():+.3f}, deviation {off.std():.3f}".strip()
    axes.axvline(0, color="0.3", linewidth=1, linestyle="--")
    tidy_axes(axes, "predicted - true mos", "photos", title)
    return figure


def finite_pairs(true: Array, predicted: Array) -> tuple[Array, Array]:
    """Both without the entries where either is no finite number."""
    true, predicted = np.asarray(true, dtype=float), np.asarray(predicted, dtype=float)
    known = np.isfinite(true) & np.isfinite(predicted)
    return true[known], predicted[known]


def axis_limits(values: Array) -> tuple[float, float]:
    """An axis's ends: the values' range and 4 % more on either side."""
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def attention_figure(photo: NDArray[np.uint8], words: Sequence[str], weights: Array, columns: int = 5) -> Figure:
    """Where the decoder looked for each word: the photo, the fainter the lower the weight, beside the word's highest.

    Args:
        photo: [H, W, 3] 0..255.
        words: T of them.
        weights: [T, N] over the N = side x side places of the grid, row by row; each row sums to 1.
        columns: pictures in a row.

    Raises:
        ValueError: the weights are not one row a word, or N is no square.
    """
    weights = np.asarray(weights, dtype=float)
    side = round(np.sqrt(weights.shape[1])) if weights.ndim == 2 else 0
    if weights.shape != (len(words), side * side):
        raise ValueError(f"weights are {weights.shape}, must be ({len(words)}, side * side)")
    count = len(words) + 1
    rows = -(-count // columns)
    figure, axes = make_figure(2.0 * columns, 2.2 * rows, rows, columns)
    for one in axes:
        one.set_axis_off()
    axes[0].imshow(photo)
    axes[0].set_title("photo", fontsize=10)
    height, width = photo.shape[:2]
    for one, word, row in zip(axes[1:], words, weights, strict=False):
        heat = cv2.resize(row.reshape(side, side) / row.max(), (width, height), interpolation=cv2.INTER_CUBIC)
        seen = 0.15 + 0.85 * heat.clip(0, 1)[..., None]
        one.imshow((photo * seen + 255 * (1 - seen)).astype(np.uint8))
        one.set_title(word, fontsize=10)
    return figure


def sample_sheet(
    photos: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    true: Sequence[float | None] = (),
    predicted: Sequence[float | None] = (),
    columns: int = 4,
) -> Figure:
    """Photos with what the model says of them; at most 12 rows.

    Args:
        photos: N of [H, W, 3] 0..255, of any sizes.
        captions: N; empty ones leave their place empty.
        true: N true mos, None or NaN where unknown; empty: none known.
        predicted: N predicted mos, likewise.
        columns: photos in a row.
    """
    photos = photos[: columns * TALLEST]
    rows = max(1, -(-len(photos) // columns))
    figure, axes = make_figure(2.6 * columns, 3.5 * rows, rows, columns)
    for i, one in enumerate(axes):
        one.set(xticks=[], yticks=[])
        one.spines[:].set_visible(False)
        if i >= len(photos):
            continue
        one.imshow(photos[i])
        one.set_title(mos_text(true[i] if true else None, predicted[i] if predicted else None), fontsize=9)
        caption = textwrap.fill(captions[i], 34, max_lines=4, placeholder=" ...")
        one.set_xlabel(caption, fontsize=8)
    return figure


def mos_text(true: float | None, predicted: float | None) -> str:
    """`mos 5.31, true 4.90`, with what is known."""
    known = [
        f"{name} {value:.2f}"
        for name, value in (("mos", predicted), ("true", true))
        if value is not None and np.isfinite(value)
    ]
    return ", ".join(known)


def objective_history(objective: Sequence[float | None], name: str = "objective") -> Figure:
    """A search's trials in order, with the best so far; a trial without a value is left out.

    Args:
        objective: one number a trial, higher is better; None: it failed.
        name: what the number is.
    """
    values = np.array([np.nan if value is None else value for value in objective], dtype=float)
    figure, (axes,) = make_figure(5.6, 3.6)
    numbers = np.arange(len(values))
    axes.plot(numbers, values, "o", color="0.55", markersize=4, label="trial")
    if np.isfinite(values).any():
        best = np.fmax.accumulate(values)
        axes.step(numbers, best, where="post", color=COLOURS[0], label=f"best so far: {best[-1]:.4g}")
    axes.legend(frameon=False, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy_axes(axes, "trial", name)
    return figure


def importance_bars(shares: Mapping[str, float], name: str) -> Figure:
    """Bars: a search's parameters by their share in how the objective varies, the largest on top.

    Args:
        shares: parameter -> share, of sum 1.
        name: what the objective is.
    """
    keys = sorted(shares, key=lambda key: shares[key])
    figure, (axes,) = make_figure(5.6, 1.0 + 0.3 * len(keys))
    bars = axes.barh(range(len(keys)), [shares[key] for key in keys], color=COLOURS[0], height=0.7)
    axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    axes.set_yticks(range(len(keys)), keys, fontsize=8)
    axes.margins(x=0.12)
    tidy_axes(axes, f"share in {name}", "")
    return figure


def pareto_front(points: Sequence[tuple[float, float]], best: Sequence[int], names: Sequence[str]) -> Figure:
    """Trials by two scores, those that none beats in both joined by steps.

    Args:
        points: two scores a trial, higher is better.
        best: numbers of the points of the front.
        names: of the two scores.
    """
    figure, (axes,) = make_figure(5.0, 4.2)
    axes.plot([x for x, _ in points], [y for _, y in points], "o", color="0.55", markersize=4, label="trial")
    across = sorted(points[i] for i in best)
    axes.step(
        [x for x, _ in across], [y for _, y in across], "s-", where="pre", color=COLOURS[0], markersize=5, label="front"
    )
    axes.legend(frameon=False, fontsize=8)
    tidy_axes(axes, names[0], names[1])
    return figure


def parameter_scatter(
    trials: Sequence[Mapping[str, Any]], objective: Sequence[float | None], name: str, log: Collection[str] = ()
) -> Figure:
    """A panel a parameter: the objective against its value; words stand side by side.

    Args:
        trials: the values drawn, one dict a trial; a parameter may be missing in some.
        objective: one number a trial, None: it failed.
        name: what the number is.
        log: parameters whose scale is logarithmic.
    """
    keys = parameter_names(trials)
    columns = min(4, max(1, len(keys)))
    rows = max(1, -(-len(keys) // columns))
    figure, axes = make_figure(2.8 * columns, 2.6 * rows, rows, columns)
    for one in axes[len(keys) :]:
        one.set_axis_off()
    for i, (one, key) in enumerate(zip(axes, keys, strict=False)):
        known = [(t[key], o) for t, o in zip(trials, objective, strict=True) if key in t and o is not None]
        scale = ParameterScale([t[key] for t in trials if key in t], key in log)
        one.plot(
            [scale.place(v) for v, _ in known], [o for _, o in known], "o", color=COLOURS[0], markersize=4, alpha=0.7
        )
        one.set_xticks(*scale.ticks())
        one.set_xlim(-0.08, 1.08)
        tidy_axes(one, key, name if i % columns == 0 else "")
    return figure


def parallel_coordinates(
    trials: Sequence[Mapping[str, Any]], objective: Sequence[float | None], name: str, log: Collection[str] = ()
) -> Figure:
    """A line a trial through its values and its objective; the darker, the better.

    Args:
        trials: the values drawn, one dict a trial; where a parameter is missing the line is broken.
        objective: one number a trial, None: it failed, and is left out.
        name: what the number is.
        log: parameters whose scale is logarithmic.
    """
    done = [({**t, name: o}, o) for t, o in zip(trials, objective, strict=True) if o is not None]
    keys = [*parameter_names(trials), name]
    scales = {key: ParameterScale([t[key] for t, _ in done if key in t], key in log) for key in keys}
    figure, (axes,) = make_figure(max(5.0, 1.5 * len(keys)), 4.2)
    shades = ParameterScale([o for _, o in done])
    for t, o in sorted(done, key=lambda pair: pair[1]):
        heights = [scales[key].place(t[key]) if key in t else np.nan for key in keys]
        good = shades.place(o)
        axes.plot(range(len(keys)), heights, color=str(0.85 * (1 - good)), linewidth=0.6 + 1.2 * good)
    for i, key in enumerate(keys):
        axes.axvline(i, color="0.6", linewidth=0.8, zorder=0)
        for place, label in zip(*scales[key].ticks(), strict=True):
            axes.text(i + 0.03, place, label, fontsize=7, va="center", bbox=LABEL)
    axes.set_xticks(range(len(keys)), [key.replace(".", ".\n") for key in keys], fontsize=8)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure


def parameter_names(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of all parameters, in order of their first use."""
    return list(dict.fromkeys(key for trial in trials for key in trial))


class ParameterScale:
    """Places values of one parameter within 0..1: words evenly, numbers by size or by logarithm.

    Args:
        values: all that occur, of one trial or many; none is allowed.
        log: by logarithm, where all are above 0.
    """

    def __init__(self, values: Sequence[Any], log: bool = False) -> None:
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        self.words = [] if numeric else sorted({str(v) for v in values})
        numbers = [float(v) for v in values] if numeric and values else [0.0]
        self.few = sorted(set(numbers)) if len(set(numbers)) <= 4 else []
        self.low, self.high = min(numbers), max(numbers)
        self.log = log and self.low > 0

    def place(self, value: Any) -> float:
        """Where a value lies, 0..1; the middle where all values are the same."""
        if self.words:
            return self.words.index(str(value)) / max(1, len(self.words) - 1)
        if self.low == self.high:
            return 0.5
        if self.log:
            return float(np.log(value / self.low) / np.log(self.high / self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> tuple[list[float], list[str]]:
        """Places and labels of every value where they are few, else of the ends and the middle."""
        if self.words:
            return [self.place(word) for word in self.words], self.words
        if self.few:
            return [self.place(value) for value in self.few], [f"{value:.3g}" for value in self.few]
        middle = float(np.sqrt(self.low * self.high)) if self.log else (self.low + self.high) / 2
        return [0.0, 0.5, 1.0], [f"{value:.3g}" for value in (self.low, middle, self.high)]
