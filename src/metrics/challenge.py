"""The scores of the 2023 Samsung AI Challenge, Image Quality Assessment (DACON 236134).

The captions' weighted sum is not divided by its weights' sum (10). The published results show it: single BLIP models
reached 1.13 to 1.28 and the 6th place 1.36. As a plain sum that is what one to three free comments an image allow, say
4 x 0.15 (CIDEr-D) + 3 x 0.12 (METEOR) + 0.1 (BLEU) + 0.25 (ROUGE-L) = 1.3; divided by ten, it would take a sum of 13.6,
while Flickr8k captions of a good model, with five references each, sum to about 3.5.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from src.metrics.base import DerivedMetric, Number, ScoreInfo

# The 6th place's public result, the unit of `combined`.
QUALITY_OF_6TH, CAPTIONING_OF_6TH = 0.7874, 1.35946
TASKS = ("quality", "captioning")  # the challenge's two leaderboards, which `combined` adds up


def quality_score(plcc: Number, srcc: Number) -> Number:
    """Mean of PLCC and SRCC, each at least 0: 0..1."""
    return (np.maximum(plcc, 0) + np.maximum(srcc, 0)) / 2


def captioning_score(cider_d: Number, meteor: Number, bleu_3: Number, bleu_4: Number, rouge_l: Number) -> Number:
    """4 CIDEr-D + 3 METEOR + 2 mean(BLEU-3, BLEU-4) + ROUGE-L."""
    return 4 * cider_d + 3 * meteor + 2 * (bleu_3 + bleu_4) / 2 + rouge_l


def combined_score(quality: Number | None = None, captioning: Number | None = None) -> Number:
    """Both scores relative to the 6th place's and added (2 is its level); with one task, that task's term alone."""
    parts = []
    if quality is not None:
        parts.append(quality / QUALITY_OF_6TH)
    if captioning is not None:
        parts.append(captioning / CAPTIONING_OF_6TH)
    return sum(parts[1:], parts[0]) if parts else 0.0


def _quality(values: Mapping[str, Any]) -> dict[str, Number]:
    return {"quality": quality_score(values["plcc"], values["srcc"])} if "plcc" in values else {}


def _captioning(values: Mapping[str, Any]) -> dict[str, Number]:
    parts = ("cider_d", "meteor", "bleu_3", "bleu_4", "rouge_l")
    return {"captioning": captioning_score(*(values[part] for part in parts))} if "meteor" in values else {}


def _combined(values: Mapping[str, Any]) -> dict[str, Number]:
    """None where captions are scored without METEOR: the sum would lack a task."""
    tasks = {task: values[task] for task in TASKS if task in values}
    complete = tasks and ("captioning" in tasks or "cider_d" not in values)
    return {"combined": combined_score(**tasks)} if complete else {}


METRICS = [
    DerivedMetric(scores=[ScoreInfo("quality", headline=True)], head="mos", order=200, derive=_quality),
    DerivedMetric(scores=[ScoreInfo("captioning", headline=True)], head="captions", order=210, derive=_captioning),
    DerivedMetric(
        scores=[ScoreInfo("combined", headline=True, whole_only=True)], head="any", order=220, derive=_combined
    ),
]
