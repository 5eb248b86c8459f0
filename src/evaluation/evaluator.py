"""Evaluation of a model or a submission: checks of the options, predictions, scores, comparison, output files."""

from dataclasses import dataclass
from pathlib import Path

from jsonargparse import Namespace

from src.common.errors import UserError
from src.common.files import check_output_file
from src.evaluation.evaluation_set import (
    EvaluationOptions,
    EvaluationSet,
    models_evaluation_set,
    submission_evaluation_set,
)
from src.evaluation.paired_comparison import Comparison, check_competitors, compare
from src.evaluation.paired_comparison_tables import comparison_to_dict, format_comparison
from src.evaluation.per_image_json import write_details, write_scores
from src.evaluation.pretrained_scores import add_pretrained_scores, check_pretrained_options
from src.evaluation.score_table import ALL, format_scores, score_by_source
from src.inference.attention import has_attention
from src.inference.predictions import Predictions
from src.inference.provenance import model_run_id
from src.metrics.base import Scores
from src.models.model_folder import describe_model
from src.tracking.finished_runs import find_group
from src.tracking.mlflow_client import open_client
from src.tracking.run_group import group_members
from src.tracking.run_registry import find_model


@dataclass
class Evaluation:
    """The predictions, their scores, and the comparison, where requested.

    Attributes:
        evaluation_set: the predictions.
        scores: of all images and of each source.
        model_scores: of each of several models, on its own images.
        comparison: with other models.
    """

    evaluation_set: EvaluationSet
    scores: dict[str, Scores]
    model_scores: dict[str, Scores]
    comparison: Comparison

    @property
    def columns(self) -> dict[str, Scores]:
        """All scores, by heading."""
        return self.scores | {f"{name} alone": scores for name, scores in self.model_scores.items()}

    def __str__(self) -> str:
        """Title and tables."""
        scores = format_scores({group: scores.scores for group, scores in self.columns.items()})
        comparison = format_comparison(self.comparison)
        return "\n".join(filter(None, [self.evaluation_set.provenance["title"], scores, comparison]))


def evaluate(options: EvaluationOptions) -> Evaluation:
    """Checks the options, predicts or reads a submission, scores and compares.

    Raises:
        UserError: a wrong option, or a model, file or label that it needs is missing.
    """
    values = options.values
    check_evaluate_options(values)
    evaluation_set = submission_evaluation_set(values) if values.predictions else models_evaluation_set(options)
    scores = score_by_source(evaluation_set.predictions, values.meteor)
    add_pretrained_scores(evaluation_set, scores, values)
    model_scores = score_models(evaluation_set, values.meteor) if len(values.model) > 1 else {}
    return Evaluation(evaluation_set, scores, model_scores, compare(evaluation_set, options))


def score_models(evaluation_set: EvaluationSet, with_meteor: bool) -> dict[str, Scores]:
    """The scores of each model or group on its own images, such as those of a random and of a shifted split."""
    predictions: dict[str, list[Predictions]] = {}
    for model in evaluation_set.models:
        predictions.setdefault(model.name, []).append(model.predictions)
    return {name: score_by_source(Predictions.join(parts), with_meteor)[ALL] for name, parts in predictions.items()}


def check_evaluate_options(options: Namespace) -> None:
    """Raises UserError where options are missing or contradict each other, or a file or model does not exist."""
    check_option_conflicts(options)
    for path in filter(None, (options.json, options.details)):
        check_output_file(Path(path))
    check_evaluated_models(options)
    check_pretrained_options(options)
    check_competitors(options.against, options.predictions or " + ".join(options.model))


def check_option_conflicts(options: Namespace) -> None:
    """Raises UserError where options are missing or contradict each other."""
    if bool(options.model) == bool(options.predictions):
        raise UserError("give either --model RUN or --predictions X.csv with --truth TABLE.csv or CONFIG.yaml")
    if options.log and options.predictions:
        raise UserError("--log: a submission has no run in MLflow; leave it out")
    if options.log and len(options.model) > 1:
        raise UserError("--log: the scores are of several runs; leave it out, or name one model")
    for name in ("attention", "embeddings"):
        if options[name] and not (options.model and options.details):
            raise UserError(f"--{name}: is written to --details X.json for a --model; name both")


def check_evaluated_models(options: Namespace) -> None:
    """Raises UserError where a model does not exist, or lacks the run or the attention that an option needs."""
    folders = [folder for name in options.model for folder in group_members(name)]
    if options.log and not evaluated_run_id(options.model[0]):
        raise UserError("--log: the model folder has no run in MLflow; leave it out")
    for name in options.model if options.attention else ():
        if (group := find_group(name)) and group.seeds > 1:
            raise UserError(f"--attention: several models of {name} predict each photo; leave it out")
    for folder in folders if options.attention else ():
        if not has_attention(describe_model(folder)):
            raise UserError(f"--attention: the decoder of {folder} has no attention; leave it out")


def evaluated_run_id(name: str) -> str:
    """MLflow's id of the run of a model or a group; empty where there is none."""
    group = find_group(name)
    return model_run_id(group.folder / "model" if group else find_model(name))


def write_outputs(evaluation: Evaluation, options: Namespace) -> list[str]:
    """Writes --json and --details and logs to MLflow, as requested. Returns a message for each."""
    messages = []
    if options.json:
        comparison = comparison_to_dict(evaluation.comparison)
        write_scores(Path(options.json), evaluation.evaluation_set, evaluation.columns, comparison)
        messages.append(f"wrote {options.json}")
    if options.details:
        extras = {"attention": options.attention, "embeddings": options.embeddings}
        write_details(Path(options.details), evaluation.evaluation_set, evaluation.scores, **extras)
        messages.append(f"wrote {options.details}; docs/details.schema.json describes it")
    if options.log:
        run_id = evaluated_run_id(options.model[0])
        log_scores(run_id, options.part, evaluation.scores[ALL])
        messages.append(f"logged to run {run_id}: make ui shows it")
    return messages


def log_scores(run_id: str, part: str, scores: Scores) -> None:
    """Logs the scores to a run in MLflow as eval/PART/SCORE."""
    client = open_client()
    for name, score in scores.scores.items():
        client.log_metric(run_id, f"eval/{part}/{name}", score.value)
