"""The scores that need a download, such as SPICE or BERTScore: each is computed where its option is given."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jsonargparse import Namespace

from src.common.errors import UserError
from src.evaluation.evaluation_set import EvaluationSet
from src.evaluation.score_table import ALL
from src.inference.predictions import Predictions
from src.metrics.base import CaptionTable, OptionalMetric, Score, Scores
from src.metrics.bootstrap import bootstrap_mean
from src.metrics.compute import optional_metrics


def check_pretrained_options(options: Namespace) -> None:
    """Raises UserError where a file or model that a score needs is missing; a hub name is only looked up in use."""
    for metric in optional_metrics():
        if value := options[metric.option.name]:
            metric.option.check(value)


def add_pretrained_scores(evaluation_set: EvaluationSet, scores: dict[str, Scores], options: Namespace) -> None:
    """Adds the requested scores to those of all images and of each source (`scores`, by group)."""
    paths = [sample.path for sample in evaluation_set.samples]
    for name, values in pretrained_scores(evaluation_set.predictions, paths, options).items():
        for group, group_scores in scores.items():
            rows = [i for i, source in enumerate(evaluation_set.predictions.sources) if group in (ALL, source)]
            group_scores.per_image[name] = values[rows]
            finite = values[rows][np.isfinite(values[rows])]
            if len(finite):
                group_scores.scores[name] = Score(float(finite.mean()), *bootstrap_mean(finite))


def pretrained_scores(predictions: Predictions, paths: Sequence[Path], options: Namespace) -> dict[str, np.ndarray]:
    """Name -> [P], NaN where an image has no caption or, if the score needs one, no reference.

    Args:
        predictions: of P images.
        paths: the images' files.
        options: of the command line; those of optional metrics switch them on.

    Raises:
        UserError: a score cannot be computed.
    """
    scores = {}
    for metric in optional_metrics():
        if value := options[metric.option.name]:
            rows = scored_rows(predictions, metric)
            table = CaptionTable(
                [predictions.captions[i] for i in rows],
                [predictions.references[i] for i in rows],
                paths=[paths[i] for i in rows],
            )
            (name,) = metric.names
            scores[name] = np.full(len(predictions), np.nan)
            scores[name][rows] = metric.per_image(table, value)
    return scores


def scored_rows(predictions: Predictions, metric: OptionalMetric) -> list[int]:
    """The rows that a metric scores. Raises UserError where there are none."""
    caption_rows = [i for i, caption in enumerate(predictions.captions) if caption]
    if not caption_rows:
        raise UserError(f"--{metric.option.name}: there are no captions to score; leave it out")
    rows = [i for i in caption_rows if predictions.references[i] or not metric.needs_references]
    if not rows:
        raise UserError(f"--{metric.option.name}: no captioned photo has references; leave it out")
    return rows
