"""Images within the page: images and figures as data URIs, and the positions of points in a figure."""

import base64
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.data.image_io import ImageError, load_image

EMPTY_PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="  # in place of an image that cannot be read


def image_uri(image: np.ndarray, side: int, quality: int = 80) -> str:
    """An image [H, W, 3] uint8 RGB as JPEG, its longer side at most `side` pixels."""
    scale = min(1.0, side / max(image.shape[:2]))
    width, height = (max(1, round(scale * length)) for length in image.shape[1::-1])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    success, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not success:
        raise ValueError(f"an image of {image.shape} cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def thumbnail(path: Path, side: int, quality: int) -> str:
    """The image of a file, likewise; an empty pixel where it cannot be read."""
    try:
        return image_uri(load_image(path), side, quality)
    except ImageError:  # reported when the image was predicted
        return EMPTY_PIXEL


def thumbnails(paths: Iterable[Path], side: int, quality: int = 80) -> list[str]:
    """The images of files, likewise."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(partial(thumbnail, side=side, quality=quality), paths))


def figure_png(figure: Figure) -> bytes:
    """A figure as PNG."""
    figure.savefig(file := io.BytesIO(), format="png")
    return file.getvalue()


def png_uri(png: bytes) -> str:
    """PNG as data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def point_positions(axes: Axes, points: np.ndarray) -> list[tuple[float, float]]:
    """Positions of points [P, 2] of some axes in their figure: fractions of its width and, from the top, its height."""
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]
    x, y = (axes.transData.transform(points) / np.array(figure.bbox.size)).T
    return [(round(float(a), 4), round(float(1 - b), 4)) for a, b in zip(x, y, strict=True)]


def evenly_spaced(count: int, limit: int) -> Sequence[int]:
    """At most `limit` of `count` rows, evenly spaced."""
    if count <= limit:
        return range(count)
    return np.linspace(0, count - 1, limit).round().astype(int).tolist()
