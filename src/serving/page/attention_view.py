"""A photo with its caption below: pointing at a word shows the word's attention in the photo.
Held by tests/serving/test_page.py.
"""

import base64
import json
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from src.inference.predictor import BeamCaption

END = "(end)"
TEMPLATE = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")


def attention_html(photo: bytes, caption: BeamCaption | None) -> str:
    """An HTML document for an iframe; it holds no text of the photo's owner.

    Args:
        photo: JPEG, encoded by this program.
        caption: with or without attention; None: only the photo.
    """
    tree: dict[str, Any] = {"photo": f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}"}
    tree |= {"words": [], "maps": [], "side": 0}
    if caption is not None:
        tree |= {"words": caption.words, **attention_maps(caption)}
    return TEMPLATE.replace("TREE", json.dumps(tree).replace("<", "\\u003c"))


def attention_maps(caption: BeamCaption) -> dict[str, Any]:
    """Words, grid side and a map 0..1 for each word; empty where the grid is not square or all weights are equal."""
    weights = caption.attention
    side = isqrt(weights.shape[1]) if weights is not None else 0
    if weights is None or side < 2 or side * side != weights.shape[1]:
        return {}
    low, spread = weights.min(axis=1, keepdims=True), np.ptp(weights, axis=1, keepdims=True)
    if float(spread.max()) < 1e-6:
        return {}
    scaled = (weights - low) / (spread + 1e-9)
    return {"words": [*caption.words, END], "maps": scaled.round(3).tolist(), "side": side}
