"""Attention maps of a caption."""

import numpy as np
import pytest

from src.plots.attention_maps import plot_attention_maps
from tests.plots.drawing import draw


def test_attention_shows_the_photo_where_the_weight_is() -> None:
    photo = np.zeros((70, 140, 3), dtype=np.uint8)
    weights = np.full((2, 49), 0.001)
    weights[0, 0] = weights[1, 48] = 1.0
    figure = plot_attention_maps(photo, ["top", "bottom"], weights)
    top, bottom = (np.asarray(figure.axes[i].images[0].get_array()) for i in (1, 2))
    assert np.unravel_index(top[..., 0].argmin(), top.shape[:2]) < (10, 20)
    assert top[:10, :20].mean() < 120 < top[20:].mean()
    np.testing.assert_array_equal(top, bottom[::-1, ::-1])
    assert [figure.axes[i].get_title() for i in (1, 2)] == ["top", "bottom"]
    draw(figure)
    with pytest.raises(ValueError, match=r"\(2, 48\)"):
        plot_attention_maps(photo, ["a", "b"], weights[:, :48])
