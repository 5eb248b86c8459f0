"""The scores that need a download, such as SPICE or BERTScore: each is computed where its option is given."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jsonargparse import Namespace

from src.common.errors import UserError
from src.inference.predictions import Predictions
from src.metrics.base import CaptionTable, OptionalMetric
from src.metrics.compute import optional_metrics


def check_pretrained_options(options: Namespace) -> None:
    """Raises UserError where a file or model that a score needs is missing; a hub name is only looked up in use."""
    for metric in optional_metrics():
        if value := options[metric.option.name]:
            metric.option.check(value)


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
            rows = _scored_rows(predictions, metric)
            table = CaptionTable(
                [predictions.captions[i] for i in rows],
                [predictions.references[i] for i in rows],
                paths=[paths[i] for i in rows],
            )
            (name,) = metric.names
            scores[name] = np.full(len(predictions), np.nan)
            scores[name][rows] = metric.per_image(table, value)
    return scores


def _scored_rows(predictions: Predictions, metric: OptionalMetric) -> list[int]:
    """The rows that a metric scores. Raises UserError where there are none."""
    captioned = [i for i, caption in enumerate(predictions.captions) if caption]
    if not captioned:
        raise UserError(f"--{metric.option.name}: there are no captions to score; leave it out")
    rows = [i for i in captioned if predictions.references[i] or not metric.needs_references]
    if not rows:
        raise UserError(f"--{metric.option.name}: no captioned photo has references; leave it out")
    return rows
