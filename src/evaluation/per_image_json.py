"""The scores and each image of an evaluation as JSON: truth, prediction, scores, and the attention of each word.

`--json` writes the columns of the predictions; `--details` writes the format of docs/details.schema.json, whose
`version` grows when a key changes its meaning or disappears.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from src.common.files import atomic_write, write_text
from src.evaluation.evaluation_set import EvaluationSet
from src.evaluation.paired_comparison_tables import scores_to_dict
from src.evaluation.score_table import ALL, finite_or_none
from src.inference.caption_attention import caption_attention
from src.inference.predictor import Predictor
from src.metrics.base import Scores

VERSION = 1
ATTENTION_DIGITS = 4
MODEL_KEYS = ("run", "run_id", "model", "model_hash", "part")


def write_scores(
    path: Path, evaluation_set: EvaluationSet, scores: Mapping[str, Scores], comparison: dict[str, Any]
) -> None:
    """Writes provenance, comparison, the scores of each group, and an entry for each image; null for NaN."""
    columns = {**vars(evaluation_set.predictions), **{name: x.tolist() for name, x in scores[ALL].per_image.items()}}
    tree = evaluation_set.provenance | comparison
    tree["scores"] = scores_to_dict({group: group_scores.scores for group, group_scores in scores.items()})
    tree["photos"] = [
        {name: finite_or_none(column[i]) for name, column in columns.items()}
        for i in range(len(evaluation_set.samples))
    ]
    write_text(path, json.dumps(tree, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_details(
    path: Path, evaluation_set: EvaluationSet, scores: Mapping[str, Scores], attention: bool = False
) -> None:
    """Writes the file of docs/details.schema.json, image by image, whole or not at all.

    Args:
        path: of the file.
        evaluation_set: the predictions.
        scores: of all images and of each source.
        attention: add the attention of each word; for models with attention only.
    """
    maps = attention_by_image(evaluation_set) if attention else iter([None] * len(evaluation_set.samples))
    header = json.dumps(details_header(evaluation_set, scores), ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as part, part.open("w", encoding="utf-8") as file:
        file.write(header[:-1] + ', "photos": [')
        for i, attention_map in enumerate(maps):
            entry = image_details(evaluation_set, scores[ALL], i) | ({"attention": attention_map} if attention else {})
            file.write((",\n" if i else "\n") + json.dumps(entry, ensure_ascii=False, allow_nan=False))
        file.write("\n]}\n")


def details_header(evaluation_set: EvaluationSet, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Version, title, models, and the scores of all images and of each source."""
    models = [{key: model.provenance[key] for key in MODEL_KEYS} for model in evaluation_set.models]
    values = scores_to_dict({group: group_scores.scores for group, group_scores in scores.items()})
    return {"version": VERSION, "title": evaluation_set.provenance["title"], "models": models, "scores": values}


def image_details(evaluation_set: EvaluationSet, scores: Scores, row: int) -> dict[str, Any]:
    """The entry of one image; null where a value is unknown or was not predicted."""
    predictions, sample = evaluation_set.predictions, evaluation_set.samples[row]
    values = {name: float(column[row]) for name, column in scores.per_image.items()}
    return {
        "name": sample.name,
        "source": sample.source,
        "path": str(sample.path),
        "mos": sample.mos,
        "mos_predicted": finite_or_none(predictions.mos[row]),
        "caption": predictions.captions[row] or None,
        "references": list(sample.captions),
        "fallback": sample.name in evaluation_set.provenance.get("fallbacks", ()),
        "scores": {name: value for name, value in values.items() if math.isfinite(value)},
    }


def attention_by_image(evaluation_set: EvaluationSet) -> Iterator[dict[str, Any] | None]:
    """For each image the words of its caption and their weights [T, N] over the grid; None where it has no caption."""
    for model in evaluation_set.models:
        maps = caption_attention(Predictor.of_model(model.loaded), model.samples, model.options)
        following = next(maps, None)
        for row in range(len(model.samples)):
            if following is None or following.row != row:
                yield None
                continue
            weights = following.weights.round(ATTENTION_DIGITS).astype(float).tolist()
            yield {"words": following.words, "weights": weights}
            following = next(maps, None)
