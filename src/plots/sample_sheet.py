"""A sheet of images with their captions and mos."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.plots.axes import make_figure

MAX_ROWS = 12


def plot_sample_sheet(
    images: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    true: Sequence[float | None] = (),
    predicted: Sequence[float | None] = (),
    columns: int = 4,
) -> Figure:
    """Images with the model's predictions; at most 12 rows.

    Args:
        images: N of [H, W, 3] RGB, 0..255, of any sizes.
        captions: N; empty ones leave their place empty.
        true: N true mos, None or NaN where unknown; empty: none known.
        predicted: N predicted mos, likewise.
        columns: images in a row.
    """
    images = images[: columns * MAX_ROWS]
    rows = max(1, -(-len(images) // columns))
    figure, axes = make_figure(2.6 * columns, 3.5 * rows, rows, columns)
    for panel in axes:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    for i, (panel, image) in enumerate(zip(axes, images, strict=False)):
        panel.imshow(image)
        panel.set_title(mos_label(true[i] if true else None, predicted[i] if predicted else None), fontsize=9)
        caption = textwrap.fill(captions[i], 34, max_lines=4, placeholder=" ...")
        panel.set_xlabel(caption, fontsize=8)
    return figure


def mos_label(true: float | None, predicted: float | None) -> str:
    """`mos 5.31, true 4.90`; a value that is None or not finite is left out."""
    values = (("mos", predicted), ("true", true))
    return ", ".join(f"{name} {value:.2f}" for name, value in values if value is not None and np.isfinite(value))
