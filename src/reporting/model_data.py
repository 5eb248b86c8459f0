"""What a report is made of: a model's answers beside the truth, its scores, and what its run logged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from jsonargparse import Namespace

from src.common.errors import UserError
from src.config.cli import Overrides
from src.config.schema import Config, to_dict
from src.evaluation.evaluation_set import ModelPredictions, predict_part
from src.evaluation.score_table import ALL, score_by_source
from src.metrics.base import Scores
from src.reporting.curves import Logged, logged_metrics

NAMED = 5  # of the photos that could not be answered


@dataclass(frozen=True)
class ReportedModel:
    """A model to report on.

    Attributes:
        model: its folder, run name, run id or `best`.
        name: what it is called; empty: as its run is.
        config: whose photos and generation stand for the model's own.
    """

    model: str
    name: str = ""
    config: Config | None = None


@dataclass
class ModelData:
    """All that is known of a model.

    Attributes:
        name: of the model in the report.
        asked: the model, the photos and its answers.
        scores: of all photos, and of each source.
        logged: what its run logged, by metric.
    """

    name: str
    asked: ModelPredictions
    scores: dict[str, Scores]
    logged: Logged

    @property
    def whole(self) -> Scores:
        """The scores of all photos."""
        return self.scores[ALL]

    def about(self) -> list[str]:
        """Which photos it answered, and which of them have no answer of its own."""
        lines, lost = self.asked.about["title"].splitlines(), self.asked.about["fallbacks"]
        if lost:
            some = ", ".join(lost[:NAMED]) + (", ..." if len(lost) > NAMED else "")
            told = "could not be answered; the training mean or commonest comment is scored in their place"
            lines.append(f"{self.name}: {len(lost)} photos {told}: {some}")
        return lines

    def config_text(self) -> str:
        """The config as YAML."""
        return yaml.safe_dump(to_dict(self.asked.loaded.config), sort_keys=False, allow_unicode=True)

    def environment(self) -> str:
        """Libraries, machine and command of the run, as it wrote them down; empty where it is not at hand."""
        file = self.asked.folder.parent / "environment.json"
        return file.read_text(encoding="utf-8") if file.is_file() else ""


def collect_models(wanted: Sequence[ReportedModel], options: Namespace, overrides: Overrides) -> list[ModelData]:
    """Has each model answer and scores it. Models of one name are called as they were asked for.

    Raises:
        UserError: there is no such model, it has no photos to answer, or it is named twice.
    """
    names = [one.name or one.model for one in wanted]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UserError(f"--model {twice}: is given twice; name each once")
    found = [collect_model(one, options, overrides) for one in wanted]
    called = [one.name for one in found]
    for given, one in zip(names, found, strict=True):
        one.name = given if called.count(one.name) > 1 else one.name
    return found


def collect_model(wanted: ReportedModel, options: Namespace, overrides: Overrides) -> ModelData:
    """One model's material."""
    asked = predict_part(wanted.model, options, overrides, cache_as_trained=True, config=wanted.config)
    history = logged_metrics(asked.about["run_id"], asked.folder.parent / "history.jsonl")
    name = wanted.name or model_label(wanted.model, asked)
    return ModelData(name, asked, score_by_source(asked.answers, options.meteor), history)


def model_label(name: str, asked: ModelPredictions) -> str:
    """The run's name for a path, an id or `best`; else what the model was asked for by."""
    given = asked.loaded.config.track.name
    return given if given and (Path(name).exists() or name in ("best", asked.about["run_id"])) else name
