"""Out-of-fold predictions of a group's runs: their table, their scores, and the spread of scores over folds and seeds.

Held by tests/tuning/test_group_training.py.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.common.text_table import format_table
from src.evaluation.score_table import ALL, ScoreColumns, format_score, score_by_source
from src.inference.blending import consensus_captions
from src.inference.predictions import Predictions
from src.metrics.base import Score
from src.tracking.run_group import OOF_COLUMNS, OOF_SCORES

SPREADS = {"folds": "sd of folds", "seeds": "sd of seeds"}


@dataclass(frozen=True)
class MemberPredictions:
    """A run's predictions for the images that it did not train on, and its scores {name: value}."""

    fold: int
    seed: int
    predictions: Predictions
    scores: Mapping[str, float]

    @staticmethod
    def read(run_folder: Path, fold: int, seed: int) -> "MemberPredictions":
        """Those of a finished run."""
        result = json.loads((run_folder / "result.json").read_text(encoding="utf-8"))
        scores = {name: score["value"] for name, score in result["scores"].items()}
        return MemberPredictions(fold, seed, Predictions.read(run_folder), scores)


@dataclass(frozen=True)
class OofScores:
    """Out-of-fold scores.

    Attributes:
        columns: of all images and of each source: score -> value with interval. mos is the mean over the seeds; a
            caption is chosen by vote of the seeds (of two, the first one's).
        spread: score -> standard deviation over folds (of the seeds' means) and over seeds (of the folds' means);
            without a number where there is a single fold or seed.
    """

    columns: ScoreColumns
    spread: Mapping[str, Mapping[str, float]]

    @staticmethod
    def read(folder: Path) -> "OofScores":
        """Those of a group's folder."""
        tree = json.loads((folder / OOF_SCORES).read_text(encoding="utf-8"))
        columns = {
            name: {key: Score(**score) for key, score in column.items()} for name, column in tree["scores"].items()
        }
        return OofScores(columns, tree["spread"])

    def to_json(self) -> str:
        """As `read` takes it."""
        scores = {name: {key: vars(score) for key, score in column.items()} for name, column in self.columns.items()}
        return json.dumps({"scores": scores, "spread": self.spread}, indent=1)

    def metrics(self) -> dict[str, float]:
        """For MLflow: oof/SCORE, its interval's ends and its spreads."""
        values: dict[str, Any] = {}
        for name, score in self.columns[ALL].items():
            values |= {f"oof/{name}": score.value, f"oof/{name}_low": score.low, f"oof/{name}_high": score.high}
            values |= {f"oof/{name}_sd_{over}": value for over, value in self.spread.get(name, {}).items()}
        return {name: value for name, value in values.items() if value is not None}

    def rows(self) -> list[list[str]]:
        """A table's header and rows: each score with its interval in each column, then its spreads."""
        over = [key for key in SPREADS if any(key in values for values in self.spread.values())]
        rows = [["out of fold", *self.columns, *(SPREADS[key] for key in over)]]
        for name in self.columns[ALL]:
            spread = self.spread.get(name, {})
            deviations = [f"{spread[key]:.4f}" if key in spread else "-" for key in over]
            rows.append([name, *(format_score(column.get(name)) for column in self.columns.values()), *deviations])
        return rows

    def __str__(self) -> str:
        return format_table(self.rows())


def score_out_of_fold(members: Sequence[MemberPredictions], with_meteor: bool = True) -> tuple[Predictions, OofScores]:
    """A group's predictions for each image by the runs that did not train on it, with their scores."""
    predictions = join_seeds(list(predictions_by_seed(members).values()))
    columns = {name: scores.scores for name, scores in score_by_source(predictions, with_meteor).items()}
    return predictions, OofScores(columns, score_spread(members))


def oof_table(members: Sequence[MemberPredictions]) -> pd.DataFrame:
    """The predictions as write_oof takes them; of an image that several folds hold out, the first fold's."""
    rows = [
        (p.sources[i], p.names[i], member.fold, member.seed, p.mos[i], p.captions[i], p.mos_true[i])
        for member in members
        for p in [member.predictions]
        for i in range(len(p))
    ]
    table = pd.DataFrame(rows, columns=OOF_COLUMNS)
    return table.drop_duplicates(["source", "img_name", "seed"], ignore_index=True)


def predictions_by_seed(members: Sequence[MemberPredictions]) -> dict[int, Predictions]:
    """Seed -> the predictions of its runs; of an image that several folds hold out, the first fold's."""
    parts: dict[int, list[Predictions]] = {}
    for member in members:
        parts.setdefault(member.seed, []).append(member.predictions)
    joined = {seed: Predictions.join(predictions) for seed, predictions in parts.items()}
    return {seed: predictions.select(list(image_rows(predictions).values())) for seed, predictions in joined.items()}


def image_rows(predictions: Predictions) -> dict[tuple[str, str], int]:
    """(source, name) of each image -> its first row."""
    rows: dict[tuple[str, str], int] = {}
    for row, image in enumerate(zip(predictions.sources, predictions.names, strict=True)):
        rows.setdefault(image, row)
    return rows


def join_seeds(seeds: Sequence[Predictions]) -> Predictions:
    """The predictions of several seeds as one, for the images that all of them hold: mean mos, captions by vote."""
    rows = [image_rows(predictions) for predictions in seeds]
    images = [image for image in rows[0] if all(image in others for others in rows)]
    aligned = [p.select([at[image] for image in images]) for p, at in zip(seeds, rows, strict=True)]
    captioned = [i for i, caption in enumerate(aligned[0].captions) if caption]
    captions = list(aligned[0].captions)
    if captioned:
        votes = consensus_captions([[p.captions[i] for i in captioned] for p in aligned])
        for i, caption in zip(captioned, votes, strict=True):
            captions[i] = caption
    mos = np.mean([p.mos for p in aligned], axis=0).tolist()
    return replace(aligned[0], mos=mos, captions=captions)


def score_spread(members: Sequence[MemberPredictions]) -> dict[str, dict[str, float]]:
    """As OofScores.spread."""
    names = [name for name in members[0].scores if all(name in member.scores for member in members)]
    axes = {"folds": [member.fold for member in members], "seeds": [member.seed for member in members]}
    return {
        name: {
            over: statistics.stdev(group_means(places, [member.scores[name] for member in members]))
            for over, places in axes.items()
            if len(set(places)) > 1
        }
        for name in names
    }


def group_means(places: Sequence[int], values: Sequence[float]) -> list[float]:
    """The mean of the values at each place."""
    return [
        math.fsum(v for p, v in zip(places, values, strict=True) if p == place) / places.count(place)
        for place in dict.fromkeys(places)
    ]
