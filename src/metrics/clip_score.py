"""CLIPScore (Hessel et al. 2021): how well a caption fits its image, without references."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from src.data.image_io import ImageError, load_image
from src.metrics.base import MetricOption, OptionalMetric, ScoreInfo
from src.metrics.text.pretrained_model import in_chunks, load_network, load_pretrained, resolve_model_name, row_cosine

WEIGHT = 2.5


def clip_score(paths: Sequence[Path], candidates: Sequence[str], model: str) -> np.ndarray:
    """2.5 max(cosine, 0) of image and caption [P]; NaN where an image cannot be read.

    The captions have no prompt ahead of them.

    Raises:
        UserError: the model cannot be loaded.
    """
    from transformers import CLIPModel, CLIPProcessor

    loaded = load_pretrained("--clip", model, lambda n: (load_network(CLIPModel, n), CLIPProcessor.from_pretrained(n)))
    cosines = [_cosines(chunk, *loaded) for chunk in in_chunks(zip(paths, candidates, strict=True))]
    return WEIGHT * np.maximum(np.concatenate(cosines), 0) if cosines else np.empty(0)


def _cosines(pairs: list[tuple[Path, str]], model: Any, processor: Any) -> np.ndarray:
    """Of each image and its caption; NaN where the image cannot be read."""
    import torch  # slow, and not in use before a score is computed

    images, cosines = {}, np.full(len(pairs), np.nan)
    for row, (path, _) in enumerate(pairs):
        try:
            images[row] = load_image(path)
        except ImageError:  # the prediction has reported it
            continue
    if not images:
        return cosines
    texts = [pairs[row][1] for row in images]
    batch = processor(text=texts, images=list(images.values()), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        output = model(**batch)
    cosines[list(images)] = row_cosine(output.image_embeds.float().numpy(), output.text_embeds.float().numpy())
    return cosines


METRICS = [
    OptionalMetric(
        scores=[ScoreInfo("clip_score")],
        head="captions",
        order=340,
        needs_references=False,
        option=MetricOption(
            "clip", str, "CLIPScore too, by this CLIP: a folder or hub name", partial(resolve_model_name, "--clip")
        ),
        per_image=lambda table, model: clip_score(table.paths, table.candidates, model),
    )
]
