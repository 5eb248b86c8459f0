"""What a model sees in photos: where its decoder looks for each word, and the photos as vectors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from src.common.device import best_device
from src.config.plugin_keys import decoder_class
from src.data.sample import Sample
from src.inference.batch_prediction import PredictOptions, extract_features, features_to_batch
from src.models.backbones.base import grid_class_tokens
from src.models.model_folder import LoadedModel, ModelDescription

EVEN = 1e-12  # weight of each place of the photo where a word looked at none


@dataclass
class CaptionAttention:
    """Where a decoder looked.

    Attributes:
        row: which of the photos.
        words: T tokens of the caption.
        weights: [T, N] as on_photo has them.
    """

    row: int
    words: list[str]
    weights: np.ndarray


def has_attention(loaded: ModelDescription) -> bool:
    """Whether the decoder looks at places of the photo; one that does not gives each the same weight."""
    decoder = loaded.config.model.decoder
    return decoder.enabled and decoder_class(decoder.kind).has_attention(decoder)


def caption_attention(
    loaded: LoadedModel, samples: Sequence[Sample], settings: PredictOptions
) -> Iterator[CaptionAttention]:
    """A look for each photo that is captioned, in their order; those that cannot be read are left out.

    The captions are those that `predict_images` gives with the same settings and photos.
    """
    device, start = best_device(), 0
    loaded.model.to(device).eval()
    for seen in extract_features(loaded, samples, replace(settings, mos=False, progress=False)):
        with torch.inference_mode():
            batch = features_to_batch(loaded, seen, settings).to(device)
            if batch.captioning is not None and batch.captioning.features is not None and len(batch.captioning.rows):
                rows = batch.captioning.rows
                grid = batch.captioning.features
                made = loaded.model.generate(grid, batch.style[rows], settings.generation, attention=True)
                for row, one in zip(rows.tolist(), made, strict=True):
                    words = [loaded.tokenizer.decode([token]) or loaded.tokenizer.word(token) for token in one.tokens]
                    assert one.attention is not None
                    yield CaptionAttention(start + row, words, image_attention(loaded, one.attention[: len(words)]))
        start += len(seen.samples)


def image_attention(about: ModelDescription, looks: Tensor) -> np.ndarray:
    """Where T tokens looked in the photo [T, N]: N = side x side places from the top left, row by row; rows sum to 1.

    Args:
        about: the model.
        looks: [T, N] weights over its grid; of some backbones with a class token first, which is no place of the photo.
    """
    looks = looks.float()
    if extra := grid_class_tokens(about.config.model.backbone.name):
        looks = looks[:, extra:] + EVEN
        looks = looks / looks.sum(dim=1, keepdim=True)
    return looks.numpy()


def embed_images(
    loaded: LoadedModel, samples: Sequence[Sample], settings: PredictOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Photos as vectors: the mean over the grid that captions are written from; without a decoder, level statistics.

    Returns:
        Which of the photos could be read, [F] in their order, and their vectors [F, C] float32.
    """
    device, start = best_device(), 0
    loaded.model.to(device).eval()
    kind = "grid" if loaded.config.model.decoder.enabled else "levels"
    settings = replace(settings, labelled=False, mos=kind == "levels", captions=kind == "grid", progress=False)
    rows: list[int] = []
    parts: list[np.ndarray] = []
    with torch.inference_mode():
        for seen in extract_features(loaded, samples, settings):
            if kind in seen.features:  # of no view but the photo itself
                features = seen.features[kind][:, 0].float()
                rows += [start + row for row in seen.rows[kind]]
                parts.append((features.mean(1) if kind == "grid" else features).cpu().numpy())
            start += len(seen.samples)
    return np.array(rows, dtype=np.int64), np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
