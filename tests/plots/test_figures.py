"""Figures: they hold the right points, numbers and places, and they draw whatever comes."""

import io

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import pearsonr, spearmanr

from src.plots import figures as plots

NOISE = np.random.default_rng(0)


def draw(figure: Figure) -> None:
    """Renders a figure, which must not come out blank."""
    figure.savefig(file := io.BytesIO(), format="png", dpi=40)
    pixels = cv2.imdecode(np.frombuffer(file.getvalue(), dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    assert pixels.std() > 0


def test_mos_scatter_leaves_out_unknown_and_names_correlations() -> None:
    true = NOISE.normal(5, 1, 50)
    predicted = true + NOISE.normal(0, 0.5, 50)
    plcc, srcc = pearsonr(true, predicted)[0], spearmanr(true, predicted)[0]
    figure = plots.mos_scatter(np.append(true, [np.nan, 3]), np.append(predicted, [1, np.nan]))
    axes = figure.axes[0]
    assert axes.texts[0].get_text() == f"50 photos\nPLCC {plcc:.3f}\nSRCC {srcc:.3f}"
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), np.stack([true, predicted], axis=1))
    diagonal = np.asarray(axes.lines[1].get_xydata())
    np.testing.assert_array_equal(diagonal[:, 0], diagonal[:, 1])
    draw(figure)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_photos_are_drawn(count: int) -> None:
    values = np.full(count, 5.0)
    draw(plots.mos_scatter(values, values))
    draw(plots.residuals(values, values))


def test_residuals_count_every_photo() -> None:
    true, predicted = NOISE.normal(5, 1, 300), NOISE.normal(5, 1, 300)
    figure = plots.residuals(true, predicted)
    bars = figure.axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 300  # type: ignore[attr-defined]
    assert f"{np.mean(predicted - true):+.3f}" in figure.axes[0].get_title()
    draw(figure)


def test_curves_differ_without_colour() -> None:
    figure = plots.curves({name: [(0, 1.0), (1, 0.5)] for name in "abcd"}, y="loss")
    lines = figure.axes[0].lines
    assert len({line.get_linestyle() for line in lines}) == 4
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == list("abcd")  # type: ignore[union-attr]
    draw(figure)
    draw(plots.curves({}))


def test_attention_shows_the_photo_where_the_weight_is() -> None:
    photo = np.zeros((70, 140, 3), dtype=np.uint8)
    weights = np.full((2, 49), 0.001)
    weights[0, 0] = weights[1, 48] = 1.0
    figure = plots.attention_figure(photo, ["top", "bottom"], weights)
    top, bottom = (np.asarray(figure.axes[i].images[0].get_array()) for i in (1, 2))
    assert np.unravel_index(top[..., 0].argmin(), top.shape[:2]) < (10, 20)
    assert top[:10, :20].mean() < 120 < top[20:].mean()
    np.testing.assert_array_equal(top, bottom[::-1, ::-1])
    assert [figure.axes[i].get_title() for i in (1, 2)] == ["top", "bottom"]
    draw(figure)
    with pytest.raises(ValueError, match=r"\(2, 48\)"):
        plots.attention_figure(photo, ["a", "b"], weights[:, :48])


def test_sample_sheet_takes_photos_of_any_size() -> None:
    photos = [NOISE.integers(0, 255, size=(20 + i, 40, 3)).astype(np.uint8) for i in range(5)]
    figure = plots.sample_sheet(photos, ["a dog"] * 5, [5.0, None, float("nan"), 4.0, 3.0], [5.5] * 5)
    titles = [axes.get_title() for axes in figure.axes[:5]]
    assert titles == ["mos 5.50, true 5.00", "mos 5.50", "mos 5.50", "mos 5.50, true 4.00", "mos 5.50, true 3.00"]
    draw(figure)
    assert len(plots.sample_sheet(photos * 20, ["a"] * 100).axes) == 48
    plots.sample_sheet([], []).savefig(io.BytesIO())


TRIALS = [{"lr": 1e-4, "kind": "lstm"}, {"lr": 1e-2, "kind": "gru", "layers": 2}, {"lr": 1e-3, "kind": "lstm"}]


def test_objective_history_keeps_the_best() -> None:
    figure = plots.objective_history([0.5, None, 0.4, 0.9, 0.7], "selected")
    best = figure.axes[0].lines[1].get_ydata()
    np.testing.assert_array_equal(best, [0.5, 0.5, 0.5, 0.9, 0.9])
    draw(figure)
    draw(plots.objective_history([None, None]))
    draw(plots.objective_history([]))


def test_parameters_are_placed_by_logarithm_or_by_word() -> None:
    figure = plots.parameter_scatter(TRIALS, [1.0, 2.0, None], "selected")
    lr, kind, layers = figure.axes[:3]
    np.testing.assert_allclose(np.asarray(lr.lines[0].get_xdata()), [0, 1])
    np.testing.assert_allclose(np.asarray(kind.lines[0].get_xdata()), [1, 0])
    np.testing.assert_allclose(np.asarray(layers.lines[0].get_xydata()), [[0.5, 2.0]])
    assert [label.get_text() for label in kind.get_xticklabels()] == ["gru", "lstm"]
    assert plots.ParameterScale([1e-4, 1e-2], log=True).place(1e-3) == pytest.approx(0.5)
    assert plots.ParameterScale([1e-4, 1e-2]).place(1e-3) < 0.1
    assert plots.ParameterScale([1, 3]).place(2) == pytest.approx(0.5)
    draw(figure)


def test_parallel_coordinates_draw_the_best_last_and_darkest() -> None:
    figure = plots.parallel_coordinates(TRIALS, [2.0, 1.0, None], "selected")
    worse, better = figure.axes[0].lines[:2]
    assert float(str(better.get_color())) < float(str(worse.get_color()))
    assert list(np.isnan(np.asarray(better.get_ydata(), dtype=float))) == [False, False, True, False]
    draw(figure)
    draw(plots.parallel_coordinates([], [], "selected"))
    plots.parameter_scatter([], [], "selected").savefig(io.BytesIO())
