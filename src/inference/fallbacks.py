"""Fallbacks: the row of an image without a prediction holds the training mean and the commonest comment."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from src.inference.submission import MOS_RANGE, Submission

if TYPE_CHECKING:
    from src.inference.batch_prediction import PredictOptions
    from src.inference.predictions import Predictions
    from src.models.model_folder import LoadedModel


def complete_submission(
    answers: "Predictions", failed: dict[str, str], members: Sequence["LoadedModel"], settings: "PredictOptions"
) -> tuple[Submission, dict[str, str]]:
    """A submission of models' answers, all rows filled and mos in range.

    Args:
        answers: of the models.
        failed: why photos could not be read, by name.
        members: the models, which decide the columns and what a missing answer becomes.
        settings: how they answered.

    Returns:
        The submission and, by name, what was wrong with photos whose rows hold a fallback.
    """
    fallback = ensemble_fallback(members, settings)
    lost = fill_missing(answers, failed, fallback, settings)
    low, high = mos_range(members)
    mos = [min(max(value, low), high) for value in answers.mos] if fallback.mos is not None else None
    return Submission(answers.names, mos, answers.captions if fallback.comment is not None else None), lost


@dataclass
class Fallback:
    """What a row holds where there is no answer: training mean and commonest comment; None where none is asked for."""

    mos: float | None
    comment: str | None


def ensemble_fallback(members: Sequence["LoadedModel"], settings: "PredictOptions") -> Fallback:
    """The fallback of models that answer together: their mean, and the first one's comment in the style."""
    means = [one.meta["mos_mean"] for one in members if one.config.model.mos.enabled and settings.mos]
    told = [one.meta for one in members if one.config.model.decoder.enabled and settings.captions]
    comments = [meta.get("comments", {}).get(settings.style) or meta["comment"] for meta in told]
    return Fallback(sum(means) / len(means) if means else None, comments[0] if comments else None)


def fill_missing(
    answers: "Predictions", failed: dict[str, str], fallback: Fallback, settings: "PredictOptions"
) -> dict[str, str]:
    """Puts the fallback where an answer is missing that was asked for.

    Returns:
        By name, what was wrong with each such photo, which is also named on stderr.
    """
    lost: dict[str, str] = {}
    for i, name in enumerate(answers.names):
        rated = fallback.mos is not None and not (settings.labelled and math.isnan(answers.mos_true[i]))
        if rated and not math.isfinite(answers.mos[i]):
            answers.mos[i] = fallback.mos or 0.0
            lost[name] = failed.get(name, "the model gives no finite mos")
        described = fallback.comment is not None and not (settings.labelled and not answers.references[i])
        if described and not answers.captions[i].strip():
            answers.captions[i] = fallback.comment or ""
            lost[name] = failed.get(name, "the model gives an empty caption")
    for name, why in lost.items():
        print(f"photo {name}: {why}; its row has the training mean or commonest comment", file=sys.stderr)
    return lost


def mos_range(members: Sequence["LoadedModel"]) -> tuple[float, float]:
    """What mos may be: the challenge's range, widened to the training data's, whose units may be others."""
    ranges = [MOS_RANGE, *(one.meta["mos_range"] for one in members if one.meta.get("mos_range"))]
    return min(low for low, _ in ranges), max(high for _, high in ranges)
