"""All scores of groups of photos, such as tenths of the mos, as parts of one table: CIDEr-D's document frequencies
are those of the whole table, so that groups compare.

Notation: P photos, B resamples in a block.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from src.metrics import bootstrap as intervals
from src.metrics.compute import ResampledScores, Score, Scores

OF_MOS = ("plcc", "srcc", "rmse", "quality")
LEFT_OUT = ("krcc", "combined")  # krcc is resampled to first order, which is no score of a part of the photos


def deciles(mos: np.ndarray, parts: int = 10) -> dict[str, np.ndarray]:
    """Rows [..] of as many photos each, by true mos [P] from low to high, named by their range; NaN is left out."""
    known = np.flatnonzero(np.isfinite(mos))
    ordered = known[np.argsort(mos[known], kind="stable")]
    groups = np.array_split(ordered, min(parts, len(ordered))) if len(ordered) else []
    return {f"{i + 1}: {mos[rows[0]]:.2f} to {mos[rows[-1]]:.2f}": rows for i, rows in enumerate(groups)}


def score_groups(
    scores: Scores, draw: ResampledScores, groups: Mapping[str, np.ndarray], resamples: int = 300, seed: int = 0
) -> dict[str, dict[str, Score]]:
    """Group -> score -> value with its 95 % interval, over the group's photos that carry the label.

    Args:
        scores: of the whole table.
        draw: see compute.measure.
        groups: name -> rows.
        resamples: of each group's bootstrap.
        seed: of the bootstrap.

    Returns:
        photos, and where there is mos: bias (mean of predicted less true), plcc, srcc, rmse, quality; where there are
        references, the captions' scores.
    """
    return {name: _group(scores, draw, rows, resamples, seed) for name, rows in groups.items()}


def _group(scores: Scores, draw: ResampledScores, rows: np.ndarray, resamples: int, seed: int) -> dict[str, Score]:
    found = {"photos": Score(float(len(rows)))}
    error = scores.per_photo.get("mos_error", np.full(len(scores.names), np.nan))[rows]
    if np.isfinite(error).any():
        error = error[np.isfinite(error)]
        found["bias"] = Score(float(error.mean()), *intervals.bootstrap_mean(error, resamples, seed))
    whole = np.zeros((1, len(scores.names)))
    whole[:, rows] = 1.0
    drawn = [draw(block) for block in _blocks(rows, len(scores.names), resamples, seed)]
    for name, value in draw(whole).items():
        if name not in LEFT_OUT and _carried(scores, rows, name):
            bounds = intervals.percentile_interval(np.concatenate([block[name] for block in drawn]))
            found[name] = Score(float(value[0]), *bounds)
    return found


def _carried(scores: Scores, rows: np.ndarray, name: str) -> bool:
    """Whether any photo of the group has the label that a score needs."""
    own = scores.per_photo.get("mos_error" if name in OF_MOS else "cider_d")
    return own is not None and bool(np.isfinite(own[rows]).any())


def _blocks(rows: np.ndarray, photos: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each photo is drawn, [B, P], none but the group's."""
    size = max(1, intervals.BLOCK // max(photos, 1))
    for block in intervals.resample_counts(len(rows), resamples, seed):
        for start in range(0, len(block), size):
            part = block[start : start + size]
            weights = np.zeros((len(part), photos))
            weights[:, rows] = part
            yield weights
