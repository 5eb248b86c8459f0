"""Facts of the training data that a model folder holds: mos statistics and the commonest captions.
Held by tests/training/test_datamodule.py.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from src.data.sample import Sample
from src.data.tokenizer import Tokenizer, normalize_caption


def mos_summary(train: Sequence[Sample]) -> dict[str, Any]:
    """mos_mean, mos_std, mos_range [lowest, highest] and mos_percentiles (0 to 100) of training; None without mos."""
    mos = np.array([sample.mos for sample in train if sample.mos is not None])
    if not len(mos):
        return dict.fromkeys(("mos_mean", "mos_std", "mos_range", "mos_percentiles"))
    return {
        "mos_mean": float(mos.mean()),
        "mos_std": float(mos.std()),
        "mos_range": [float(mos.min()), float(mos.max())],
        "mos_percentiles": np.percentile(mos, range(101)).round(4).tolist(),
    }


def commonest_caption(captions: Sequence[str], tokenizer: Tokenizer, style: str) -> str:
    """The commonest caption, as the model would write it in a style; empty without any."""
    counts = Counter(normalize_caption(text) for text in captions)
    if not counts:
        return ""
    commonest = min(counts, key=lambda text: (-counts[text], text))
    return tokenizer.decode(tokenizer.encode(commonest, style))
