"""The data of a report: each model's predictions, their scores, and the metrics that its run logged.
Held by tests/reporting/test_report_builder.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.common.errors import UserError
from src.config.schema import Config
from src.data.sample import Sample
from src.evaluation.evaluation_set import EvaluationOptions, ModelPredictions, predict_group, predict_part
from src.evaluation.score_table import ALL, score_by_source
from src.inference.predictions import Predictions
from src.inference.provenance import model_run_id
from src.metrics.base import Scores
from src.reporting.metric_history import MetricHistory, load_metric_history, metrics_from_file
from src.tracking.finished_runs import RunGroup, find_group

MAX_FALLBACK_NAMES = 5


@dataclass(frozen=True)
class ReportedModel:
    """A model by folder, run name, id or `best`; its name in the report; a config that replaces data and `generate`."""

    model: str
    name: str = ""
    config: Config | None = None


@dataclass
class ModelData:
    """A model's name in the report, its predictions, scores of all images and of each source, and logged metrics.

    Of a group, `model` has its first model and the predictions of all.
    """

    name: str
    model: ModelPredictions
    scores: dict[str, Scores]
    history: MetricHistory
    group: RunGroup | None = None

    def curves(self) -> dict[str, MetricHistory]:
        """The logged metrics by run: the model's own, or those of a group's runs as far as their folders are here."""
        if self.group is None:
            return {self.name: self.history}
        return {
            name: metrics_from_file(self.group.folder.parent / name / "history.jsonl") for name in self.group.members
        }

    @property
    def overall(self) -> Scores:
        """The scores of all images."""
        return self.scores[ALL]

    @property
    def predictions(self) -> Predictions:
        """The predictions, beside the truth."""
        return self.model.predictions

    @property
    def samples(self) -> list[Sample]:
        """The images, in the predictions' order."""
        return self.model.samples

    def summary(self) -> list[str]:
        """Lines below the report's title: the images, and those whose prediction is a fallback."""
        lines, fallbacks = self.model.provenance["title"].splitlines(), self.model.provenance["fallbacks"]
        if fallbacks:
            names = ", ".join(fallbacks[:MAX_FALLBACK_NAMES]) + (", ..." if len(fallbacks) > MAX_FALLBACK_NAMES else "")
            reason = "have no prediction; the training mean or commonest comment is scored in its place"
            lines.append(f"{self.name}: {len(fallbacks)} photos {reason}: {names}")
        return lines


def collect_models(reported: Sequence[ReportedModel], options: EvaluationOptions, with_meteor: bool) -> list[ModelData]:
    """Predicts and scores with each model. Models whose runs have the same name keep the names on the command line.

    Raises:
        UserError: a model does not exist, has no images, or is given twice.
    """
    names = [model.name or model.model for model in reported]
    if repeated := next((name for name in names if names.count(name) > 1), ""):
        raise UserError(f"--model {repeated}: is given twice; name each once")
    models = [collect_model(model, options, with_meteor) for model in reported]
    run_names = [model.name for model in models]
    for name, model in zip(names, models, strict=True):
        model.name = name if run_names.count(model.name) > 1 else model.name
    return models


def collect_model(reported: ReportedModel, options: EvaluationOptions, with_meteor: bool) -> ModelData:
    """The data of one model or group; a model given by path, id or `best` has the name of its run."""
    if group := find_group(reported.model):
        model = group_predictions(group, options)
        history = load_metric_history(model.provenance["run_id"], group.folder / "history.jsonl")
        return ModelData(group.name, model, score_by_source(model.predictions, with_meteor), history, group)
    model = predict_part(reported.model, options, reported.config, cache_as_trained=True)
    history = load_metric_history(model.provenance["run_id"], model.folder.parent / "history.jsonl")
    by_run_name = Path(reported.model).exists() or reported.model in ("best", model.provenance["run_id"])
    name = reported.name or (by_run_name and model.loaded.config.track.name) or reported.model
    return ModelData(name, model, score_by_source(model.predictions, with_meteor), history)


def group_predictions(group: RunGroup, options: EvaluationOptions) -> ModelPredictions:
    """A group's predictions, each image's by the models that did not train on it, as those of one model."""
    parts = predict_group(str(group.folder), options, cache_as_trained=True)
    provenance = parts[0].provenance | {
        "run_id": model_run_id(group.folder / "model"),
        "fallbacks": [name for part in parts for name in part.provenance["fallbacks"]],
    }
    return ModelPredictions(
        group.name,
        Predictions.join(part.predictions for part in parts),
        [sample for part in parts for sample in part.samples],
        provenance,
        loaded=parts[0].loaded,
        folder=group.folder / "model",  # its environment.json and run_id.txt are the group's
        options=parts[0].options,
    )
