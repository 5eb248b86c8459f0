"""Attention maps: an image once for each word of its caption, faint where the weight of the word is low."""

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.plots.axes import Array, make_figure

MIN_OPACITY = 0.15


def plot_attention_maps(image: NDArray[np.uint8], words: Sequence[str], weights: Array, columns: int = 5) -> Figure:
    """The image, then a copy for each word whose opacity is the word's weight over its highest weight.

    Args:
        image: [H, W, 3] RGB, 0..255.
        words: T tokens.
        weights: [T, N] over the N = side x side places of the grid, row by row; each row sums to 1.
        columns: copies in a row.

    Raises:
        ValueError: the weights are not one row for each word, or N is not a square.
    """
    weights = np.asarray(weights, dtype=float)
    side = round(np.sqrt(weights.shape[1])) if weights.ndim == 2 else 0
    if weights.shape != (len(words), side * side):
        raise ValueError(f"weights are {weights.shape}, must be ({len(words)}, side * side)")
    rows = -(-(len(words) + 1) // columns)
    figure, axes = make_figure(2.0 * columns, 2.2 * rows, rows, columns)
    for panel in axes:
        panel.set_axis_off()
    pictures = [image, *(fade(image, row.reshape(side, side)) for row in weights)]
    for panel, title, picture in zip(axes, ["photo", *words], pictures, strict=False):
        panel.imshow(picture)
        panel.set_title(title, fontsize=10)
    return figure


def fade(image: NDArray[np.uint8], weights: Array) -> NDArray[np.uint8]:
    """The image [H, W, 3] on white, its opacity the weights [side, side] scaled to its size."""
    height, width = image.shape[:2]
    heat = cv2.resize(weights / weights.max(), (width, height), interpolation=cv2.INTER_CUBIC)
    opacity = MIN_OPACITY + (1 - MIN_OPACITY) * heat.clip(0, 1)[..., None]
    return (image * opacity + 255 * (1 - opacity)).astype(np.uint8)
