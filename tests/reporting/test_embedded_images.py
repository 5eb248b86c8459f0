"""Positions of points in a figure, thumbnails."""

import base64
from pathlib import Path

import cv2
import numpy as np

from src.plots.embedding_scatter import plot_embedding_scatter
from src.reporting.embedded_images import EMPTY_PIXEL, evenly_spaced, figure_png, point_positions, thumbnails


def test_points_lie_where_the_figure_has_them() -> None:

    points = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, -1.0], [2.0, 2.0], [-1.0, 1.0]])
    figure = plot_embedding_scatter(points, np.full(5, 8.0), [0, 0, 1, 1, -1], ["a", "b"], "PCA")
    drawn = cv2.imdecode(np.frombuffer(figure_png(figure), np.uint8), cv2.IMREAD_GRAYSCALE)
    for axes in figure.axes[:2]:
        for x, y in point_positions(axes, points):
            assert drawn[round(y * drawn.shape[0]), round(x * drawn.shape[1])] < 240


def test_an_unreadable_image_is_an_empty_pixel(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((20, 40, 3), 200, np.uint8))
    broken, wide = thumbnails([tmp_path / "broken.jpg", tmp_path / "wide.png"], 10)
    assert broken == EMPTY_PIXEL
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(wide.split(",")[1]), np.uint8), 1)
    assert pixels.shape == (5, 10, 3)


def test_rows_are_evenly_spaced() -> None:
    assert list(evenly_spaced(3, 5)) == [0, 1, 2]
    assert list(evenly_spaced(101, 3)) == [0, 50, 100]
