"""The scores and each image of an evaluation as JSON: truth, prediction, scores, and the attention of each word.

`--json` writes the columns of the predictions; `--details` writes the format of docs/details.schema.json, whose
`version` grows when a key changes its meaning or disappears.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import UserError
from src.common.files import atomic_write, write_text
from src.evaluation.evaluation_set import EvaluationSet
from src.evaluation.paired_comparison_tables import scores_to_dict
from src.evaluation.score_table import ALL, finite_or_none
from src.inference.caption_attention import caption_attention
from src.inference.image_embedding import embed_images
from src.inference.predictor import Predictor
from src.metrics.base import Scores

VERSION = 1
DIGITS = 4  # of attention and embeddings
MAX_INLINE = 200  # images whose embeddings stand in the JSON itself
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
    path: Path,
    evaluation_set: EvaluationSet,
    scores: Mapping[str, Scores],
    attention: bool = False,
    embeddings: bool = False,
) -> None:
    """Writes the file of docs/details.schema.json, image by image, whole or not at all.

    Args:
        path: of the file.
        evaluation_set: the predictions.
        scores: of all images and of each source.
        attention: add the attention of each word; for models with attention only.
        embeddings: add each image's embedding; of more than MAX_INLINE images, in X.npz beside X.json.
    """
    count = len(evaluation_set.samples)
    maps = attention_by_image(evaluation_set) if attention else iter([None] * count)
    vectors = embedding_by_image(evaluation_set) if embeddings else []
    tree = details_header(evaluation_set, scores)
    if count > MAX_INLINE and vectors:
        tree["embeddings"] = path.with_suffix(".npz").name
        write_embeddings(path.with_suffix(".npz"), evaluation_set, vectors)
        vectors = []
    header = json.dumps(tree, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as part, part.open("w", encoding="utf-8") as file:
        file.write(header[:-1] + ', "photos": [')
        for i, attention_map in enumerate(maps):
            entry = image_details(evaluation_set, scores[ALL], i) | ({"attention": attention_map} if attention else {})
            if vectors:
                entry["embedding"] = None if (vector := vectors[i]) is None else vector.round(DIGITS).tolist()
            file.write((",\n" if i else "\n") + json.dumps(entry, ensure_ascii=False, allow_nan=False))
        file.write("\n]}\n")


def details_header(evaluation_set: EvaluationSet, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Version, title, models, and the scores of all images and of each source."""
    origins = [origin for m in evaluation_set.models for origin in m.provenance.get("members", [m.provenance])]
    models = [{key: origin[key] for key in MODEL_KEYS} for origin in origins]
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
            weights = following.weights.round(DIGITS).astype(float).tolist()
            yield {"words": following.words, "weights": weights}
            following = next(maps, None)


def embedding_by_image(evaluation_set: EvaluationSet) -> list[np.ndarray | None]:
    """For each image its embedding [C] by its model, as `embed_images` gives it; None where it cannot be read."""
    vectors: list[np.ndarray | None] = []
    for model in evaluation_set.models:
        rows, values = embed_images(Predictor.of_model(model.loaded), model.samples, model.options)
        vector_of_row = dict(zip(rows.tolist(), values.astype(float), strict=True))
        vectors += [vector_of_row.get(row) for row in range(len(model.samples))]
    return vectors


def write_embeddings(path: Path, evaluation_set: EvaluationSet, vectors: Sequence[np.ndarray | None]) -> None:
    """Writes `names` and `sources` [n] and `embeddings` [n, C] float32, NaN where there is none.

    Raises:
        UserError: the models' embeddings have different lengths.
    """
    lengths = {len(vector) for vector in vectors if vector is not None}
    if len(lengths) > 1:
        raise UserError("--embeddings: these models' embeddings differ in length; evaluate one model at a time")
    unknown = np.full(max(lengths, default=0), np.nan)
    rows = np.array([unknown if vector is None else vector for vector in vectors], np.float32)
    names, sources = ([getattr(sample, key) for sample in evaluation_set.samples] for key in ("name", "source"))
    with atomic_write(path) as part:
        np.savez_compressed(part, names=names, sources=sources, embeddings=rows)
