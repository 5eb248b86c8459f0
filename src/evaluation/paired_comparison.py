"""Models and submissions on the same images: deciles of true mos, paired differences, simulated leaderboards."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from src.common.errors import UserError
from src.config.schema import Config
from src.data.sample import Sample
from src.data.sources import load_part
from src.evaluation.evaluation_set import (
    EvaluationOptions,
    EvaluationSet,
    predict_group,
    predict_with_fallbacks,
    submission_predictions,
)
from src.evaluation.out_of_fold import image_rows
from src.inference.model_loading import load_model
from src.inference.predict_options import make_predict_options
from src.inference.predictions import Predictions, score_predictions
from src.inference.submission import Submission, read_submission
from src.metrics.base import Score, Scores
from src.metrics.bootstrap import paired_differences
from src.metrics.leaderboard import SCORES as LEADERBOARD_SCORES
from src.metrics.leaderboard import Kind, LeaderboardPair, simulate_leaderboards
from src.metrics.meteor import Meteor, optional_meteor
from src.metrics.subgroups import deciles, score_groups
from src.tracking.finished_runs import find_group
from src.tracking.run_group import group_members

CUT_KINDS: tuple[Kind, ...] = ("stratified", "shifted")


@dataclass
class Competitor:
    """A model or submission on the images that all competitors have predictions for.

    Attributes:
        name: of the model or submission.
        mos_true: [P] NaN where unknown.
        scores: of its predictions.
    """

    name: str
    mos_true: np.ndarray
    scores: Scores


@dataclass
class Comparison:
    """The result of a comparison; a part that was not requested is empty.

    Attributes:
        competitors: the evaluated model or submission, then those of --against.
        deciles: range of true mos -> score -> value for the first competitor.
        differences: name of a competitor -> score -> the first competitor's score minus this one's.
        leaderboards: kind of cut -> public and private leaderboard.
        cuts: number of cuts of each kind.
    """

    competitors: list[Competitor] = field(default_factory=list)
    deciles: dict[str, dict[str, Score]] = field(default_factory=dict)
    differences: dict[str, dict[str, Score]] = field(default_factory=dict)
    leaderboards: dict[str, LeaderboardPair] = field(default_factory=dict)
    cuts: int = 0


def compare(evaluation_set: EvaluationSet, options: EvaluationOptions) -> Comparison:
    """Deciles, differences and leaderboards, as --deciles, --against and --boards request.

    Raises:
        UserError: a submission has none of the images, or the images lack the labels that an option needs.
    """
    values = options.values
    if not (values.deciles or values.against or values.boards):
        return Comparison()
    with optional_meteor(values.meteor and any(evaluation_set.predictions.captions)) as meteor:
        competitors = score_competitors(evaluation_set, options, meteor)
    comparison = Comparison(competitors, cuts=values.boards)
    first = competitors[0]
    if values.deciles:
        comparison.deciles = score_groups(first.scores, deciles(first.mos_true))
        if not comparison.deciles:
            raise UserError("--deciles: no photo has a true mos; leave it out")
    comparison.differences = {other.name: score_differences(first, other) for other in competitors[1:]}
    if values.boards:
        comparison.leaderboards = make_leaderboards(competitors, values.boards)
    return comparison


def check_competitors(names: Sequence[str], first: str) -> None:
    """Looks up each competitor before anything is predicted; `first` is the model or submission to evaluate.

    Raises:
        UserError: a name is given twice, or is neither a submission nor a model.
    """
    labels = [first, *names]
    if repeated := next((name for name in labels if labels.count(name) > 1), ""):
        raise UserError(f"--against {repeated}: is given twice; name each once")
    for name in names:
        if name.endswith(".csv"):
            read_submission(Path(name))
        else:
            group_members(name)


def score_competitors(
    evaluation_set: EvaluationSet, options: EvaluationOptions, meteor: Meteor | None
) -> list[Competitor]:
    """The evaluated model or submission, then those of --against, on the images that all submissions hold.

    Raises:
        UserError: a submission has none of the images.
    """
    names = options.values.against
    submissions = {name: read_submission(Path(name)) for name in names if name.endswith(".csv")}
    rows = shared_rows(evaluation_set, submissions)
    samples = [evaluation_set.samples[i] for i in rows]
    competitors = [score_competitor(evaluation_set.name, evaluation_set.predictions.select(rows), meteor)]
    for name in names:
        if name in submissions:
            predictions = submission_predictions(submissions[name], samples)
        else:
            predictions = competitor_predictions(name, samples, options)
        competitors.append(score_competitor(name, predictions, meteor))
    return competitors


def shared_rows(evaluation_set: EvaluationSet, submissions: Mapping[str, Submission]) -> list[int]:
    """Rows of the images that all submissions hold; prints to stderr how many these are, unless they are all.

    Raises:
        UserError: a submission leaves no image.
    """
    rows = list(range(len(evaluation_set.samples)))
    for name, submission in submissions.items():
        image_names = set(submission.names)
        rows = [i for i in rows if evaluation_set.samples[i].name in image_names]
        if not rows:
            raise UserError(f"--against {name}: none of its photos is among the others'; check it for img_name")
    if len(rows) < (count := len(evaluation_set.samples)):
        print(f"{len(rows)} of {count} photos are in every submission; these are compared", file=sys.stderr)
    return rows


def score_competitor(name: str, predictions: Predictions, meteor: Meteor | None) -> Competitor:
    """A competitor with its scores."""
    scores = score_predictions(predictions, meteor, intervals=True)
    return Competitor(name, np.array(predictions.mos_true), scores)


def competitor_predictions(name: str, samples: list[Sample], options: EvaluationOptions) -> Predictions:
    """A model's predictions for the images; warns where it may have been trained on some of them."""
    if find_group(name):
        predictions = Predictions.join(model.predictions for model in predict_group(name, options, samples))
        rows = image_rows(predictions)
        return predictions.select([rows[sample.source, sample.name] for sample in samples])
    loaded, _ = load_model(name)
    predict_options = make_predict_options(options.values, options.overrides, loaded, labelled=True)
    warn_training_images(name, loaded.config, samples, options.values.part)
    return predict_with_fallbacks(loaded, samples, predict_options)[0]


def warn_training_images(name: str, config: Config, samples: Sequence[Sample], part: str) -> None:
    """Prints to stderr how many images a model may have been trained on, or why that is unknown."""
    try:
        part_images = {(sample.source, sample.name) for sample in load_part(config, part)}
    except UserError as error:
        print(f"{name}: it is unknown whether it was trained on these photos: {error}", file=sys.stderr)
        return
    sources = {source.name for source in config.data.sources}
    if foreign := sum((s.source, s.name) not in part_images for s in samples if s.source in sources):
        consequence = "it may have been trained on them"
        print(f"{name}: {foreign} of the photos are not in its own {part} part: {consequence}", file=sys.stderr)


def score_differences(first: Competitor, other: Competitor) -> dict[str, Score]:
    """Score -> the first competitor's value minus the other's, with the interval of a paired bootstrap."""
    return paired_differences(first.scores, other.scores)


def make_leaderboards(competitors: Sequence[Competitor], cuts: int) -> dict[str, LeaderboardPair]:
    """Kind of cut -> simulated leaderboards (see metrics.leaderboard).

    Raises:
        UserError: the competitors have no score to rank by.
    """
    if not any(name in competitor.scores.scores for competitor in competitors for name in LEADERBOARD_SCORES):
        raise UserError("--boards: no photo has a true mos or captions to score; leave it out")
    scores = {competitor.name: competitor.scores for competitor in competitors}
    return {kind: simulate_leaderboards(scores, competitors[0].mos_true, kind, cuts) for kind in CUT_KINDS}
