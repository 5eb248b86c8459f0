"""Fallbacks: the row of an image without a prediction holds the training mean and the commonest comment.

Held by tests/inference/test_predict_submission.py.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from src.data.formats.base import is_missing
from src.inference.predict_options import PredictOptions
from src.inference.predictions import Predictions
from src.inference.submission import MOS_RANGE, Submission
from src.models.model_folder import ModelDescription


def complete_submission(
    predictions: Predictions, failed: dict[str, str], members: Sequence[ModelDescription], options: PredictOptions
) -> tuple[Submission, dict[str, str]]:
    """A submission of models' predictions, all rows filled and mos in range.

    Args:
        predictions: of the models.
        failed: why images could not be read, by name.
        members: the models, which decide the columns and the fallbacks.
        options: how images were predicted.

    Returns:
        The submission and, by name, why rows hold a fallback.
    """
    fallback = ensemble_fallback(members, options)
    reasons = fill_missing(predictions, failed, fallback, options)
    low, high = mos_range(members)
    mos = [min(max(value, low), high) for value in predictions.mos] if fallback.mos is not None else None
    comments = predictions.captions if fallback.comment is not None else None
    return Submission(predictions.names, mos, comments), reasons


@dataclass
class Fallback:
    """The training mean and the commonest comment; None where the column is not predicted."""

    mos: float | None
    comment: str | None


def ensemble_fallback(members: Sequence[ModelDescription], options: PredictOptions) -> Fallback:
    """The fallback of an ensemble: the mean of its members' means, and the first decoder's comment in the style."""
    means = [member.meta["mos_mean"] for member in members if member.config.model.mos.enabled and options.mos]
    metas = [member.meta for member in members if member.config.model.decoder.enabled and options.captions]
    comments = [meta.get("comments", {}).get(options.style) or meta["comment"] for meta in metas]
    return Fallback(sum(means) / len(means) if means else None, comments[0] if comments else None)


def fill_missing(
    predictions: Predictions, failed: dict[str, str], fallback: Fallback, options: PredictOptions
) -> dict[str, str]:
    """Puts the fallback in the place of missing predictions; with options.labelled, only where there is a label.

    Returns:
        By name, why a row holds a fallback; each is also named on stderr.
    """
    reasons: dict[str, str] = {}
    for i, name in enumerate(predictions.names):
        needs_mos = fallback.mos is not None and not (options.labelled and math.isnan(predictions.mos_true[i]))
        if needs_mos and not math.isfinite(predictions.mos[i]):
            predictions.mos[i] = fallback.mos or 0.0
            reasons[name] = failed.get(name, "the model gives no finite mos")
        needs_caption = fallback.comment is not None and not (options.labelled and not predictions.references[i])
        if needs_caption and is_missing(predictions.captions[i]):
            predictions.captions[i] = fallback.comment or ""
            reasons[name] = failed.get(name, "the model gives an empty caption")
    for name, reason in reasons.items():
        print(f"photo {name}: {reason}; its row has the training mean or commonest comment", file=sys.stderr)
    return reasons


def mos_range(members: Sequence[ModelDescription]) -> tuple[float, float]:
    """Lowest and highest mos allowed: the challenge's, widened to the training data's, whose units may be others."""
    ranges = [MOS_RANGE, *(member.meta["mos_range"] for member in members if member.meta.get("mos_range"))]
    return min(low for low, _ in ranges), max(high for _, high in ranges)
