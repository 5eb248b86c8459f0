"""Evaluation of a model or a submission: scores, deciles, comparisons, leaderboards, as tables and JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jsonargparse import Namespace

from src.common.errors import UserError
from src.common.files import check_output_file, write_text
from src.config.cli import Overrides
from src.evaluation.evaluation_set import EvaluationSet
from src.evaluation.score_table import ALL, finite_or_none
from src.inference.provenance import model_run_id
from src.tracking.run_registry import find_model

if TYPE_CHECKING:
    from src.inference.predictions import Predictions
    from src.metrics.compute import Score, Scores


def check_evaluate_options(options: Namespace) -> None:
    """Raises UserError where options ask for nothing, do not go together, or name what is not there."""
    check_option_conflicts(options)
    for place in filter(None, (options.json, options.details)):
        check_output_file(Path(place))
    check_evaluated_models(options)
    from src.evaluation.comparison import check_competitors
    from src.evaluation.pretrained_scores import check_pretrained_options

    check_pretrained_options(options)
    check_competitors(options.against, options.predictions or " + ".join(options.model))


def check_evaluated_models(options: Namespace) -> None:
    """Raises UserError where a model is not there, or is not of the kind that --log or --attention needs."""
    folders = [find_model(name) for name in options.model]
    if options.log and not model_run_id(folders[0]):
        raise UserError("--log: the model folder is of no run in MLflow; leave it out")
    if options.attention:
        from src.inference.attention import has_attention
        from src.models.model_folder import describe_model

        for folder in folders:
            if not has_attention(describe_model(folder)):
                raise UserError(f"--attention: the decoder of {folder} attends to no place; leave it out")


def check_option_conflicts(options: Namespace) -> None:
    """Raises UserError where options ask for nothing, or do not go together."""
    if bool(options.model) == bool(options.predictions):
        raise UserError("give either --model RUN or --predictions X.csv with --truth TABLE.csv or CONFIG.yaml")
    if options.log and options.predictions:
        raise UserError("--log: a submission is of no run in MLflow; leave it out")
    if options.log and len(options.model) > 1:
        raise UserError("--log: the scores are of several runs; leave it out, or name one model")
    if options.attention and not (options.model and options.details):
        raise UserError("--attention: is kept in --details X.json, of a --model; name both")


def add_pretrained_scores(found: EvaluationSet, scores: dict[str, "Scores"], options: Namespace) -> None:
    """Adds the scores that need a download, where asked for, to those of all photos and of each source."""
    from src.evaluation.pretrained_scores import pretrained_scores
    from src.metrics.bootstrap import bootstrap_mean
    from src.metrics.compute import Score

    for name, values in pretrained_scores(found.answers, [sample.path for sample in found.samples], options).items():
        for group, one in scores.items():
            own = values[[i for i, source in enumerate(found.answers.sources) if group in (ALL, source)]]
            one.per_photo[name] = own
            if len(own := own[np.isfinite(own)]):
                one.scores[name] = Score(float(own.mean()), *bootstrap_mean(own))


def compare_and_rank(found: EvaluationSet, options: Namespace, overrides: Overrides) -> dict[str, Any]:
    """Prints deciles, comparisons and boards, as asked for. Returns them as plain types."""
    from src.evaluation.comparison import print_deciles, print_differences, print_leaderboards, score_competitors
    from src.metrics.meteor import optional_meteor

    more: dict[str, Any] = {}
    if not (options.deciles or options.against or options.boards):
        return more
    with optional_meteor(options.meteor and any(found.answers.captions)) as meteor:
        every = score_competitors(found, options.against, options, overrides, meteor)
    if options.deciles:
        more["deciles"] = print_deciles(every)
    if options.against:
        more["against"] = print_differences(every)
    if options.boards:
        more["boards"] = print_leaderboards(every, options.boards)
    return more


def write_json(path: Path, about: dict[str, Any], answers: "Predictions", scores: dict[str, "Scores"]) -> None:
    """Scores of every group and one entry a photo: truth, answer and its own scores; null where there is none."""
    values = {name: {key: asdict(score) for key, score in group.scores.items()} for name, group in scores.items()}
    own = scores[ALL].per_photo
    photos = [
        {
            **{key: finite_or_none(column[i]) for key, column in vars(answers).items()},
            **{key: finite_or_none(float(column[i])) for key, column in own.items()},
        }
        for i in range(len(answers))
    ]
    text = json.dumps({**about, "scores": values, "photos": photos}, ensure_ascii=False, indent=1, allow_nan=False)
    write_text(path, text + "\n")


def log_scores(run_id: str, part: str, scores: dict[str, "Score"]) -> None:
    """Adds the scores to a run in MLflow as eval/PART/SCORE."""
    from src.tracking.mlflow_client import open_client

    client = open_client()
    for name, score in scores.items():
        client.log_metric(run_id, f"eval/{part}/{name}", score.value)
