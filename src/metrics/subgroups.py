"""All scores of groups of images, such as tenths of the mos, as parts of one table.

CIDEr-D's document frequencies are those of the whole table, so that groups compare.
Notation: P images, B resamples in a block.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from src.metrics.base import Score, Scores
from src.metrics.bootstrap import BLOCK, bootstrap_mean, percentile_interval, resample_counts
from src.metrics.compute import score_infos


def deciles(mos: np.ndarray, parts: int = 10) -> dict[str, np.ndarray]:
    """Rows [..] of as many photos each, by true mos [P] from low to high, named by their range; NaN is left out."""
    known = np.flatnonzero(np.isfinite(mos))
    ordered = known[np.argsort(mos[known], kind="stable")]
    groups = np.array_split(ordered, min(parts, len(ordered))) if len(ordered) else []
    return {f"{i + 1}: {mos[rows[0]]:.2f} to {mos[rows[-1]]:.2f}": rows for i, rows in enumerate(groups)}


def score_groups(
    scores: Scores, groups: Mapping[str, np.ndarray], resamples: int = 300, seed: int = 0
) -> dict[str, dict[str, Score]]:
    """Group -> score -> value with its 95 % interval, over the group's images that carry the label.

    Args:
        scores: of the whole table.
        groups: name -> rows.
        resamples: of each group's bootstrap.
        seed: of the bootstrap.

    Returns:
        photos, and where there is mos: bias (mean of predicted less true), plcc, srcc, rmse, quality; where there are
        references, the captions' scores.
    """
    return {name: _score_group(scores, rows, resamples, seed) for name, rows in groups.items()}


def _score_group(scores: Scores, rows: np.ndarray, resamples: int, seed: int) -> dict[str, Score]:
    group = {"photos": Score(float(len(rows)))}
    error = scores.per_image.get("mos_error", np.full(len(scores.names), np.nan))[rows]
    if np.isfinite(error).any():
        error = error[np.isfinite(error)]
        group["bias"] = Score(float(error.mean()), *bootstrap_mean(error, resamples, seed))
    members = np.zeros((1, len(scores.names)))
    members[:, rows] = 1.0
    drawn = [scores.resample(block) for block in _blocks(rows, len(scores.names), resamples, seed)]
    infos = score_infos()
    for name, value in scores.resample(members).items():
        info, metric = infos[name]
        if not info.whole_only and _has_label(scores, rows, "mos_error" if metric.head == "mos" else "cider_d"):
            bounds = percentile_interval(np.concatenate([block[name] for block in drawn]))
            group[name] = Score(float(value[0]), *bounds)
    return group


def _has_label(scores: Scores, rows: np.ndarray, score: str) -> bool:
    """Whether any image of the group has a score, which all images with the label have."""
    values = scores.per_image.get(score)
    return values is not None and bool(np.isfinite(values[rows]).any())


def _blocks(rows: np.ndarray, images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, [B, P], none but the group's."""
    size = max(1, BLOCK // max(images, 1))
    for block in resample_counts(len(rows), resamples, seed):
        for start in range(0, len(block), size):
            part = block[start : start + size]
            weights = np.zeros((len(part), images))
            weights[:, rows] = part
            yield weights
