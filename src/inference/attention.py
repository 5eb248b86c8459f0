"""Attention over an image's places: which models have it, and how the weights lie over the image.

Held by tests/inference/test_predictor.py and tests/models/backbones/test_blip.py.
"""

import numpy as np
from torch import Tensor

from src.config.plugin_keys import decoder_class
from src.models.backbones.base import grid_class_tokens
from src.models.model_folder import ModelDescription

EVEN = 1e-12  # weight of each place of the image where a word attends to none


def has_attention(description: ModelDescription) -> bool:
    """Whether the decoder attends to places of the image; a decoder that does not gives each the same weight."""
    decoder = description.config.model.decoder
    return decoder.enabled and decoder_class(decoder.kind).has_attention(decoder)


def image_attention(description: ModelDescription, weights: Tensor) -> np.ndarray:
    """Attention of T tokens over the image [T, N]: N = side x side places from the top left, row by row; rows sum to 1.

    Args:
        description: the model.
        weights: [T, N] over its grid; some backbones have class tokens before these, which are no places of the image.
    """
    weights = weights.float()
    if extra := grid_class_tokens(description.config.model.backbone.name):
        weights = weights[:, extra:] + EVEN
        weights = weights / weights.sum(dim=1, keepdim=True)
    return weights.numpy()
