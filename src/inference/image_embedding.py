"""Images as vectors, from the features that a model reads.

Held by tests/reporting/test_report_builder.py.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from src.data.feature_store import FeatureKind
from src.data.sample import Sample
from src.inference.predict_options import PredictOptions
from src.inference.predictor import Predictor


def embed_images(
    predictor: Predictor, samples: Sequence[Sample], options: PredictOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Images as vectors: the mean over the grid that captions are written from; without a decoder, level statistics.

    Returns:
        Rows of the images that could be read, [R] in their order, and their vectors [R, C] float32.
    """
    kind: FeatureKind = "grid" if predictor.description.config.model.decoder.enabled else "levels"
    options = replace(options, labelled=False, mos=kind == "levels", captions=kind == "grid", progress=False)
    start, rows, parts = 0, [], []
    for features in predictor.feature_batches(samples, options):
        if kind in features.features:
            values = features.features[kind][:, 0].float()  # the image itself, not mirrored
            rows += [start + row for row in features.rows[kind]]
            parts.append((values.mean(1) if kind == "grid" else values).cpu().numpy())
        start += len(features.samples)
    return np.array(rows, dtype=np.int64), np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
