"""Plots of predicted against true mos."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from src.plots.mos import plot_mos_calibration, plot_mos_residuals, plot_mos_scatter
from tests.plots.drawing import draw

NOISE = np.random.default_rng(0)


def test_mos_scatter_leaves_out_unknown_and_names_correlations() -> None:
    true = NOISE.normal(5, 1, 50)
    predicted = true + NOISE.normal(0, 0.5, 50)
    plcc, srcc = pearsonr(true, predicted)[0], spearmanr(true, predicted)[0]
    figure = plot_mos_scatter(np.append(true, [np.nan, 3]), np.append(predicted, [1, np.nan]))
    axes = figure.axes[0]
    assert axes.texts[0].get_text() == f"50 photos\nPLCC {plcc:.3f}\nSRCC {srcc:.3f}"
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), np.stack([true, predicted], axis=1))
    diagonal = np.asarray(axes.lines[1].get_xydata())
    np.testing.assert_array_equal(diagonal[:, 0], diagonal[:, 1])
    draw(figure)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_photos_are_drawn(count: int) -> None:
    values = np.full(count, 5.0)
    draw(plot_mos_scatter(values, values))
    draw(plot_mos_residuals(values, values))
    draw(plot_mos_calibration(values, values))


def test_residuals_count_every_photo() -> None:
    true, predicted = NOISE.normal(5, 1, 300), NOISE.normal(5, 1, 300)
    figure = plot_mos_residuals(true, predicted)
    bars = figure.axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 300  # type: ignore[attr-defined]
    assert f"{np.mean(predicted - true):+.3f}" in figure.axes[0].get_title()
    draw(figure)


def test_calibration_compares_means_of_tenths() -> None:
    predicted = np.repeat(np.arange(10.0), 5)
    figure = plot_mos_calibration(predicted + 1, predicted)
    means = np.asarray(figure.axes[0].lines[0].get_xydata())
    np.testing.assert_allclose(means, [[value, value + 1] for value in range(10)])
    draw(figure)
