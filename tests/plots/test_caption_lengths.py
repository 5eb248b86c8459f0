"""Lengths of captions."""

import numpy as np

from src.plots.caption_lengths import plot_caption_lengths
from tests.plots.drawing import draw


def test_shares_of_each_length() -> None:
    figure = plot_caption_lengths({"model": [2, 2, 3, 1], "people": [3], "nobody": []})
    model, people = figure.axes[0].lines
    np.testing.assert_allclose(model.get_ydata(), [0, 0.25, 0.5, 0.25])
    np.testing.assert_allclose(people.get_ydata(), [0, 0, 0, 1])
    assert model.get_label() == "model, mean 2.0"
    draw(figure)
    draw(plot_caption_lengths({}))
