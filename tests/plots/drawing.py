"""Renders figures in tests."""

import io

import cv2
import numpy as np
from matplotlib.figure import Figure


def draw(figure: Figure) -> None:
    """Renders a figure; fails where it is blank."""
    figure.savefig(file := io.BytesIO(), format="png", dpi=40)
    pixels = cv2.imdecode(np.frombuffer(file.getvalue(), dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    assert pixels.std() > 0
