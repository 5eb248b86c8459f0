"""Answers to scores, of all photos and of each source, and their table."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from src.inference.predictions import Predictions
    from src.metrics.base import Score, Scores
    from src.metrics.meteor import Meteor

ALL = "all"


def score_by_source(answers: "Predictions", with_meteor: bool = True) -> dict[str, "Scores"]:
    """All scores with intervals: of all photos, and of each source where there are several."""
    from src.metrics.meteor import optional_meteor

    sources = sorted(set(answers.sources))
    groups = {ALL: list(range(len(answers)))}
    if len(sources) > 1:
        groups |= {one: [i for i, source in enumerate(answers.sources) if source == one] for one in sources}
    with optional_meteor(with_meteor and any(answers.captions)) as meteor:
        return {name: score_rows(answers, rows, meteor) for name, rows in groups.items()}


def score_rows(answers: "Predictions", rows: list[int], meteor: "Meteor | None") -> "Scores":
    """Scores of some photos. How varied captions are is told of the photos that were captioned."""
    return measure_rows(answers, rows, meteor, intervals=True)


def measure_rows(
    answers: "Predictions", rows: Sequence[int], meteor: "Meteor | None", intervals: bool = False
) -> "Scores":
    """Scores of some photos."""
    from src.metrics.compute import score_images

    names, captions = [answers.names[i] for i in rows], [answers.captions[i] for i in rows]
    return score_images(
        names=names,
        mos=np.array([answers.mos[i] for i in rows]),
        mos_true=np.array([answers.mos_true[i] for i in rows]),
        candidates=captions,
        references=[answers.references[i] for i in rows],
        meteor=meteor,
        intervals=intervals,
    )


def score_table(scores: dict[str, dict[str, "Score"]]) -> str:
    """Scores as aligned lines, a column for each group of photos, 95 % intervals in brackets."""
    groups, names = list(scores), list(dict.fromkeys(name for group in scores.values() for name in group))
    rows = [["score", *groups]]
    rows += [[name, *(score_cell(scores[group].get(name)) for group in groups)] for name in names]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def score_cell(score: "Score | None") -> str:
    """0.7421 [0.7011, 0.7790]"""
    if score is None:
        return "-"
    value = f"{score.value:.4f}" if not score.value.is_integer() or abs(score.value) < 2 else f"{score.value:.0f}"
    return value if score.low is None else f"{value} [{score.low:.4f}, {score.high:.4f}]"


def finite_or_none(value: Any) -> Any:
    """The value, or None for a NaN, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
