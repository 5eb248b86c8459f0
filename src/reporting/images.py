"""Pictures within a page: photos and figures as data URIs, and which place of a figure a point is drawn at."""

import base64
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from src.data.image_io import ImageError, load_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOTHING = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="  # one empty pixel, for a photo that cannot be read


def photo_uri(photo: np.ndarray, side: int, quality: int = 80) -> str:
    """A photo [H, W, 3] uint8 RGB as JPEG, its longer side at most `side` pixels."""
    scale = min(1.0, side / max(photo.shape[:2]))
    width, height = (max(1, round(scale * length)) for length in photo.shape[1::-1])
    small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a photo of {photo.shape} cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def thumbnails(paths: Iterable[Path], side: int, quality: int = 80) -> list[str]:
    """Photos of files, likewise; an empty picture for one that cannot be read."""

    def one(path: Path) -> str:
        try:
            return photo_uri(load_image(path), side, quality)
        except ImageError:  # told where the photo was answered
            return NOTHING

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, paths))


def figure_png(figure: "Figure") -> bytes:
    """A figure as PNG."""
    figure.savefig(file := io.BytesIO(), format="png")
    return file.getvalue()


def png_uri(png: bytes) -> str:
    """PNG as data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def point_positions(axes: "Axes", points: np.ndarray) -> list[tuple[float, float]]:
    """Where points [P, 2] of some axes lie in their figure, as parts of its width and, from the top, its height."""
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]
    x, y = (axes.transData.transform(points) / np.array(figure.bbox.size)).T
    return [(round(float(a), 4), round(float(1 - b), 4)) for a, b in zip(x, y, strict=True)]


def evenly_spaced(count: int, most: int) -> Sequence[int]:
    """At most `most` of `count` rows, evenly spread."""
    if count <= most:
        return range(count)
    return np.linspace(0, count - 1, most).round().astype(int).tolist()
