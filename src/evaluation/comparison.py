"""Models and submissions side by side on the same photos: by tenths of mos, pair by pair, and on simulated boards."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace

from src.common.errors import UserError
from src.config.cli import Overrides
from src.config.schema import Config
from src.data.sample import Sample
from src.data.sources import load_part
from src.evaluation.evaluation_set import EvaluationSet, submission_predictions
from src.evaluation.score_table import measure_rows, score_cell, score_table
from src.inference.fallbacks import ensemble_fallback, fill_missing
from src.inference.model_loading import load_model
from src.inference.predict_options import make_predict_options
from src.inference.predictions import Predictions
from src.inference.predictor import Predictor
from src.inference.submission import Submission, read_submission
from src.metrics import leaderboard
from src.metrics.base import Score, Scores
from src.metrics.bootstrap import paired_differences
from src.metrics.compute import compact_scores
from src.metrics.leaderboard import Leaderboard, simulate_leaderboards
from src.metrics.meteor import Meteor
from src.metrics.subgroups import deciles, score_groups
from src.tracking.run_registry import find_model


@dataclass
class Competitor:
    """One competitor.

    Attributes:
        name: of the model or submission.
        mos_true: [P] NaN where unknown.
        scores: of the photos that all competitors answer.
    """

    name: str
    mos_true: np.ndarray
    scores: Scores


def score_competitors(
    found: EvaluationSet, names: Sequence[str], options: Namespace, overrides: Overrides, meteor: Meteor | None
) -> list[Competitor]:
    """What is scored, first, and what it is held against, on the photos that all answer.

    Args:
        found: what is scored.
        names: models, or submissions ending in .csv.
        options: of the command.
        overrides: the options that a person typed.
        meteor: its process, or None.

    Raises:
        UserError: a submission names none of the photos.
    """
    labels = [found.name, *names]
    tables = [read_submission(Path(name)) if name.endswith(".csv") else None for name in names]
    rows = shared_rows(found, {name: one for name, one in zip(names, tables, strict=True) if one})
    samples = [found.samples[i] for i in rows]
    answers = [found.answers.select(rows)]
    for name, one in zip(names, tables, strict=True):
        answers.append(
            submission_predictions(one, samples) if one else competitor_predictions(name, samples, options, overrides)
        )
    return [score_competitor(label, one, meteor) for label, one in zip(labels, answers, strict=True)]


def check_competitors(names: Sequence[str], ours: str) -> None:
    """Looks each rival up, before anything is answered; `ours` is what is held against them.

    Raises:
        UserError: one is given twice, or is no submission and no model.
    """
    labels = [ours, *names]
    if twice := next((name for name in labels if labels.count(name) > 1), ""):
        raise UserError(f"--against {twice}: is given twice; name each once")
    for name in names:
        if name.endswith(".csv"):
            read_submission(Path(name))
        else:
            find_model(name)


def shared_rows(found: EvaluationSet, tables: Mapping[str, Submission]) -> list[int]:
    """Which photos all submissions name; says so where these are not all.

    Raises:
        UserError: with one of the submissions, none is left.
    """
    rows = list(range(len(found.samples)))
    for name, one in tables.items():
        named = set(one.names)
        rows = [i for i in rows if found.samples[i].name in named]
        if not rows:
            raise UserError(f"--against {name}: none of its photos is among the others'; check it for img_name")
    if len(rows) < (every := len(found.samples)):
        print(f"{len(rows)} of {every} photos are in every submission; these are compared", file=sys.stderr)
    return rows


def score_competitor(name: str, answers: Predictions, meteor: Meteor | None) -> Competitor:
    """A competitor's scores."""
    scores = measure_rows(answers, range(len(answers)), meteor, intervals=True)
    return Competitor(name, np.array(answers.mos_true), scores)


def competitor_predictions(name: str, samples: list, options: Namespace, overrides: Overrides) -> Predictions:
    """A model's answers for these photos; says so where they are not all held out from it."""
    loaded, _ = load_model(name)
    settings = make_predict_options(options, overrides, loaded, labelled=True)
    warn_training_images(name, loaded.config, samples, options.part)
    answers, failed = Predictor.of_model(loaded).predict(samples, settings)
    fill_missing(answers, failed, ensemble_fallback([loaded], settings), settings)
    return answers


def warn_training_images(name: str, config: Config, samples: Sequence[Sample], part: str) -> None:
    """Says on stderr how many photos a model may have learned from, or why that cannot be told."""
    try:
        own = {(one.source, one.name) for one in load_part(config, part)}
    except UserError as error:
        print(f"{name}: whether it knows the photos from its training cannot be told: {error}", file=sys.stderr)
        return
    sources = {one.name for one in config.data.sources}
    if strange := sum((one.source, one.name) not in own for one in samples if one.source in sources):
        print(f"{name}: {strange} of the photos are not of its own {part} part: it may know them", file=sys.stderr)


def print_deciles(every: Sequence[Competitor]) -> dict[str, Any]:
    """Prints the scores of each tenth of the photos by true mos. Returns them."""
    one = every[0]
    found = score_groups(one.scores, deciles(one.mos_true))
    if not found:
        raise UserError("--deciles: no photo has a true mos; leave it out")
    print("\nby tenths of true mos, from low to high")
    print(score_table(scores_by_group(found)))
    return scores_to_dict(found)


def scores_by_group(groups: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, Score]]:
    """Score -> group -> value, of the few scores that fit on a screen."""
    names = ("photos", "bias", *compact_scores())
    columns = {name: {group: scores[name] for group, scores in groups.items() if name in scores} for name in names}
    return {name: column for name, column in columns.items() if column}


def print_differences(every: Sequence[Competitor]) -> dict[str, Any]:
    """Prints each competitor's scores beside the first one's, with paired differences. Returns these."""
    ours = every[0]
    found: dict[str, Any] = {}
    for other in every[1:]:
        off = paired_differences(ours.scores, other.scores)
        columns = {ours.name: ours.scores.scores, other.name: other.scores.scores, "difference": off}
        print(f"\nagainst {other.name} on the same {len(ours.mos_true)} photos (intervals of a paired bootstrap)")
        print(score_table(columns))
        found |= scores_to_dict({other.name: off})
    return found


def print_leaderboards(every: Sequence[Competitor], cuts: int) -> dict[str, Any]:
    """Prints the simulated boards of both kinds. Returns them.

    Raises:
        UserError: there is nothing to rank by.
    """
    if not any(name in one.scores.scores for one in every for name in leaderboard.SCORES):
        raise UserError("--boards: no photo has a true mos or captions to score; leave it out")
    found: dict[str, Any] = {}
    for kind in ("stratified", "shifted"):
        made = simulate_leaderboards({one.name: one.scores for one in every}, every[0].mos_true, kind, cuts)  # type: ignore[arg-type]
        sides = {"public": made.public, "private": made.private}
        print(f"\nboards, {kind}: {cuts} cuts into 30 % public and 70 % private photos")
        print(leaderboard_table(sides))
        found[kind] = {side: {"scores": board.scores, "ranks": board.shares()} for side, board in sides.items()}
        if len(every) > 1:
            found[kind]["public_winner_wins_private"] = made.kept
            print(f"the winner of the public board wins the private one in {made.kept:.0%} of the cuts")
    return found


def leaderboard_table(sides: Mapping[str, Leaderboard]) -> str:
    """A column a board and score; with several competitors, how often each takes which rank."""
    names = list(next(iter(sides.values())).scores)
    columns: dict[str, list[str]] = {"": names}
    for side, board in sides.items():
        known = [score for score in leaderboard.SCORES if any(score in one for one in board.scores.values())]
        for score in known[: 3 if "captioning" not in known else 2]:
            found = [Score(*one[score]) if score in one else None for one in board.scores.values()]
            columns[f"{side} {score}"] = list(map(score_cell, found))
        if len(names) > 1:
            shares = board.shares()
            columns[f"{side} ranks"] = [
                ", ".join(f"{i + 1}: {share:.0%}" for i, share in enumerate(shares[n]) if share) for n in names
            ]
    lines = [list(columns), *(list(line) for line in zip(*columns.values(), strict=True))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def scores_to_dict(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, Any]]:
    """Scores as dicts of value, low and high."""
    return {group: {name: asdict(score) for name, score in one.items()} for group, one in scores.items()}
