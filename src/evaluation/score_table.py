"""Scores of all images and of each source, and their table."""

import math
from collections.abc import Mapping
from typing import Any

from src.common.text_table import format_table
from src.inference.predictions import Predictions, score_predictions
from src.metrics.base import Score, Scores
from src.metrics.meteor import optional_meteor

ALL = "all"
ScoreColumns = Mapping[str, Mapping[str, Score]]
"""Heading of a column -> name of a score -> score."""


def score_by_source(predictions: Predictions, with_meteor: bool = True) -> dict[str, Scores]:
    """All scores with intervals: of all images, and of each source where there are several."""
    sources = sorted(set(predictions.sources))
    groups = {ALL: list(range(len(predictions)))}
    if len(sources) > 1:
        groups |= {name: [i for i, source in enumerate(predictions.sources) if source == name] for name in sources}
    with optional_meteor(with_meteor and any(predictions.captions)) as meteor:
        subsets = {name: predictions.select(rows) for name, rows in groups.items()}
        return {name: score_predictions(subset, meteor, intervals=True) for name, subset in subsets.items()}


def score_rows(columns: ScoreColumns, corner: str = "score") -> list[list[str]]:
    """Rows of a table with a score in each row: the header, then the scores; a dash where a column lacks a score."""
    names = list(dict.fromkeys(name for scores in columns.values() for name in scores))
    rows = [[name, *(format_score(scores.get(name)) for scores in columns.values())] for name in names]
    return [[corner, *columns], *rows]


def format_scores(columns: ScoreColumns) -> str:
    """Scores as aligned text, with 95 % intervals in brackets."""
    return format_table(score_rows(columns))


def format_score(score: Score | None) -> str:
    """0.7421 [0.7011, 0.7790]"""
    if score is None:
        return "-"
    value = f"{score.value:.4f}" if not score.value.is_integer() or abs(score.value) < 2 else f"{score.value:.0f}"
    return value if score.low is None else f"{value} [{score.low:.4f}, {score.high:.4f}]"


def finite_or_none(value: Any) -> Any:
    """The value, or None for a float that is not finite, which JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
