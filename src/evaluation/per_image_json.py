"""Every photo of an evaluation as JSON: truth, answer, scores, and where the decoder looked.

docs/details.schema.json describes the file; its `version` grows when a key changes its meaning or leaves.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common.files import atomic_write
from src.evaluation.evaluation_set import EvaluationSet
from src.evaluation.score_table import ALL, finite_or_none

if TYPE_CHECKING:
    from src.metrics.base import Scores

VERSION = 1
DIGITS = 4  # of attention


def write_details(path: Path, found: EvaluationSet, scores: dict[str, "Scores"], attention: bool = False) -> None:
    """Writes the file, photo by photo, whole or not at all; attention only of models whose decoder attends."""
    looks = attention_by_image(found) if attention else iter([None] * len(found.samples))
    with atomic_write(path) as part, part.open("w", encoding="utf-8") as file:
        file.write(json.dumps(json_header(found, scores), ensure_ascii=False, allow_nan=False)[:-1] + ', "photos": [')
        for i, look in enumerate(looks):
            photo = image_details(found, scores[ALL], i) | ({"attention": look} if attention else {})
            file.write((",\n" if i else "\n") + json.dumps(photo, ensure_ascii=False, allow_nan=False))
        file.write("\n]}\n")


def json_header(found: EvaluationSet, scores: dict[str, "Scores"]) -> dict[str, Any]:
    """What is said once: version, title, models, and the scores of all photos and of each source."""
    about = [one.about for one in found.parts]
    told = [{key: one[key] for key in ("run", "run_id", "model", "model_hash", "part")} for one in about]
    values = {
        group: {name: {"value": s.value, "low": s.low, "high": s.high} for name, s in one.scores.items()}
        for group, one in scores.items()
    }
    return {"version": VERSION, "title": found.about["title"], "models": told, "scores": values}


def image_details(found: EvaluationSet, scores: "Scores", row: int) -> dict[str, Any]:
    """One photo; null where nothing is known or was asked for."""
    answers, sample = found.answers, found.samples[row]
    own = {name: finite_or_none(float(values[row])) for name, values in scores.per_image.items()}
    return {
        "name": sample.name,
        "source": sample.source,
        "path": str(sample.path),
        "mos": sample.mos,
        "mos_predicted": finite_or_none(answers.mos[row]),
        "caption": answers.captions[row] or None,
        "references": list(sample.captions),
        "fallback": sample.name in found.about.get("fallbacks", ()),
        "scores": {name: value for name, value in own.items() if value is not None and math.isfinite(value)},
    }


def attention_by_image(found: EvaluationSet) -> Iterator[dict[str, Any] | None]:
    """For each photo the words of its caption and [T, N] weights over the grid; None where it has no caption."""
    from src.inference.caption_attention import caption_attention
    from src.inference.predictor import Predictor

    for one in found.parts:
        ahead = caption_attention(Predictor.of_model(one.loaded), one.samples, one.settings)
        look = next(ahead, None)
        for row in range(len(one.samples)):
            if look is None or look.row != row:
                yield None
                continue
            yield {"words": look.words, "weights": look.weights.round(DIGITS).astype(float).tolist()}
            look = next(ahead, None)
