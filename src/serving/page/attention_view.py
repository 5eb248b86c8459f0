"""A photo with its caption below: pointing at a word shows where the model looked for it."""

import base64
import json
from math import isqrt
from typing import Any

from src.inference.predictor import BeamCaption

END = "(end)"


def attention_html(photo: bytes, caption: BeamCaption | None) -> str:
    """A document of its own, for an iframe. It holds no text of the photo's owner.

    Args:
        photo: JPEG, written anew by us.
        caption: with or without attention; None: the photo alone.
    """
    tree: dict[str, Any] = {"photo": f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}"}
    tree |= {"words": [], "maps": [], "side": 0}
    if caption is not None:
        tree |= {"words": caption.words, **attention_maps(caption)}
    return TEMPLATE.replace("TREE", json.dumps(tree).replace("<", "\\u003c"))


def attention_maps(caption: BeamCaption) -> dict[str, Any]:
    """Each word's map, its highest weight 1; none where the grid is no square or every place counts alike."""
    weights = caption.attention
    side = isqrt(weights.shape[1]) if weights is not None else 0
    if (
        weights is None
        or side < 2
        or side * side != weights.shape[1]
        or float((weights.max(1) - weights.min(1)).max()) < 1e-6
    ):
        return {}
    scaled = (weights - weights.min(axis=1, keepdims=True)) / (weights.max(axis=1) - weights.min(axis=1) + 1e-9)[
        :, None
    ]
    return {"words": [*caption.words, END], "maps": scaled.round(3).tolist(), "side": side}


TEMPLATE = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; font: 16px/1.5 "Source Sans", sans-serif; color: #31333f; background: #fff }
#frame { position: relative; display: inline-block; line-height: 0 }
img { max-width: 100%; max-height: 380px; border-radius: 6px; image-rendering: auto }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; border-radius: 6px; pointer-events: none }
#words { margin: 6px 0 2px; min-height: 1.5em }
#words span { padding: 2px 5px; border-radius: 5px; cursor: default; outline: none; display: inline-block }
#words span.map:hover, #words span.map:focus { background: #c44e00; color: #fff }
#words span.end, small { color: #777 }
</style><div id="frame"><img alt="the photo"><canvas></canvas></div><div id="words"></div><small id="hint"></small>
<script>
const tree = TREE;
const canvas = document.querySelector("canvas"), words = document.getElementById("words");
document.querySelector("img").src = tree.photo;
function show(map) {
  const pen = canvas.getContext("2d");
  canvas.width = canvas.height = 256;
  pen.clearRect(0, 0, 256, 256);
  if (!map) return;
  const small = new OffscreenCanvas(tree.side, tree.side), own = small.getContext("2d");
  const pixels = own.createImageData(tree.side, tree.side);
  map.forEach((weight, i) => pixels.data.set([10, 12, 20, 205 * (1 - weight)], 4 * i));
  own.putImageData(pixels, 0, 0);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(small, 0, 0, 256, 256);
}
tree.words.forEach((word, i) => {
  const span = document.createElement("span");
  span.textContent = word;
  if (tree.maps.length) {
    span.className = i < tree.words.length - 1 ? "map" : "map end";
    span.tabIndex = 0;
    span.onmouseenter = span.onfocus = () => show(tree.maps[i]);
    span.onmouseleave = span.onblur = () => show(null);
  }
  words.append(span);
});
if (tree.maps.length) document.getElementById("hint").textContent = "Point at a word to see where the model looked.";
</script>"""
