"""Where a decoder attends for each word of its captions, of files of any number.

Held by tests/evaluation/test_evaluator.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from src.data.sample import Sample
from src.inference.attention import image_attention
from src.inference.image_features import FeatureBatch, make_batch
from src.inference.predict_options import PredictOptions
from src.inference.predictor import Predictor


@dataclass
class CaptionAttention:
    """The attention of one caption.

    Attributes:
        row: of the image among all.
        words: T tokens of the caption.
        weights: [T, N] as `image_attention` gives them.
    """

    row: int
    words: list[str]
    weights: np.ndarray


def caption_attention(
    predictor: Predictor, samples: Sequence[Sample], options: PredictOptions
) -> Iterator[CaptionAttention]:
    """The attention of each captioned image, in their order; those that cannot be read are left out.

    The captions are those that `Predictor.predict` gives with the same options and images.
    """
    start = 0
    for features in predictor.feature_batches(samples, replace(options, mos=False, progress=False)):
        yield from batch_attention(predictor, features, options, start)
        start += len(features.samples)


@torch.inference_mode()
def batch_attention(
    predictor: Predictor, features: FeatureBatch, options: PredictOptions, start: int
) -> list[CaptionAttention]:
    """As `caption_attention`, of a batch whose first image has the row `start`."""
    tokenizer = predictor.description.tokenizer
    batch = make_batch(predictor.description, features, options).to(predictor.engine.device)
    if predictor.engine.decoder is None or batch.caption_input is None or batch.caption_input.features is None:
        return []
    grid, rows = batch.caption_input.features, batch.caption_input.rows
    captions = predictor.write_captions(grid, batch, features, replace(options, attention=True))
    attention = []
    for row, caption in zip(rows.tolist(), captions, strict=True):
        words = [tokenizer.decode([token]) or tokenizer.word(token) for token in caption.tokens]
        assert caption.attention is not None
        weights = image_attention(predictor.description, caption.attention[: len(words)])
        attention.append(CaptionAttention(start + row, words, weights))
    return attention
