"""A sheet of images with predictions."""

import io

import numpy as np

from src.plots.sample_sheet import plot_sample_sheet
from tests.plots.drawing import draw

NOISE = np.random.default_rng(0)


def test_sample_sheet_takes_photos_of_any_size() -> None:
    photos = [NOISE.integers(0, 255, size=(20 + i, 40, 3)).astype(np.uint8) for i in range(5)]
    figure = plot_sample_sheet(photos, ["a dog"] * 5, [5.0, None, float("nan"), 4.0, 3.0], [5.5] * 5)
    titles = [axes.get_title() for axes in figure.axes[:5]]
    assert titles == ["mos 5.50, true 5.00", "mos 5.50", "mos 5.50", "mos 5.50, true 4.00", "mos 5.50, true 3.00"]
    draw(figure)
    assert len(plot_sample_sheet(photos * 20, ["a"] * 100).axes) == 48
    plot_sample_sheet([], []).savefig(io.BytesIO())
