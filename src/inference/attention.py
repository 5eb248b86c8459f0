"""Attention over an image's places: which models have it, and how the weights lie over the image."""

import numpy as np
from torch import Tensor

from src.models.backbones.blip import is_blip
from src.models.model_folder import ModelDescription

EVEN = 1e-12  # weight of each place of the image where a word attends to none


def has_attention(description: ModelDescription) -> bool:
    """Whether the decoder attends to places of the image; a decoder that does not gives each the same weight."""
    decoder = description.config.model.decoder
    return decoder.enabled and (decoder.kind in ("llama", "blip") or _attends(description))


def _attends(description: ModelDescription) -> bool:
    decoder = description.config.model.decoder
    return decoder.kind == "recurrent" and decoder.attention != "none"


def image_attention(description: ModelDescription, weights: Tensor) -> np.ndarray:
    """Attention of T tokens over the image [T, N]: N = side x side places from the top left, row by row; rows sum to 1.

    Args:
        description: the model.
        weights: [T, N] over its grid; BLIP's has a class token before these, which is no place of the image.
    """
    weights = weights.float()
    if is_blip(description.config.model.backbone.name):
        weights = weights[:, 1:] + EVEN
        weights = weights / weights.sum(dim=1, keepdim=True)
    return weights.numpy()
