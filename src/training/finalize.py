"""What a finished run keeps, in its folder and in MLflow: scores with intervals, model folder, plots and samples."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.common.files import write_text
from src.config.schema import Config
from src.data.image_io import load_image
from src.inference.predictions import Predictions, predict_batches, score_predictions
from src.models.model_folder import save_model
from src.plots import figures as plots
from src.tracking.mlflow_tracker import Tracker
from src.tracking.run_folder import RunFolder
from src.tracking.run_log import read_metrics
from src.training.datamodule import DataModule
from src.training.lightning_module import MultitaskModule, selection_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 12


def finalize_run(
    config: Config, folder: RunFolder, learner: MultitaskModule, data: DataModule, tracker: Tracker | None
) -> None:
    """Scores the best weights on the validation photos and keeps everything.

    A process of a group that is not its first has no tracker, and only answers its part.
    """
    own = predict_batches(learner.model, data.val_loader(), config.generate, data.tokenizer, config.train.precision)
    answers = Predictions.join(learner.group.gather(own))
    if tracker is None:
        return
    scores = {name: asdict(value) for name, value in score_predictions(answers, learner.meteor, intervals=True).items()}
    save_model(folder.model, learner.model, data.tokenizer.to_json(), config, data.meta() | {"scores": scores})
    best = selection_score({name: s["value"] for name, s in scores.items()}, config.train.select)
    tracker.log_metrics({f"best/{name}": s["value"] for name, s in scores.items()})
    tracker.log_text(json.dumps(scores, indent=1), "scores.json")
    tracker.log_text(json.dumps(vars(answers), ensure_ascii=False), "answers.json")
    for name, figure in run_figures(answers, folder, data):
        tracker.log_figure(figure, f"plots/{name}.png")
    tracker.log_model(folder.model)
    # Last, since `best` looks at it: a run that was killed before has no model to show for it.
    tracker.log_metrics({"selected": best, "train_seconds": learner.seconds})
    result = {"name": config.track.name, "model": str(folder.model), "run_id": tracker.run_id, "selected": best}
    result |= {"seconds": learner.seconds, "captions": learner.captions, "scores": scores}
    write_text(folder.result, json.dumps(result, indent=1))


def run_figures(answers: Predictions, folder: RunFolder, data: DataModule) -> Iterable[tuple[str, "Figure"]]:
    """Plots by name: losses and scores over epochs, mos, samples."""
    history = read_metrics(folder.history)
    for name, y in (("loss", "loss"), ("selected", "selected score")):
        if series := {metric: points for metric, points in history.items() if metric.endswith(f"/{name}")}:
            yield name, plots.curves(series, y=y)
    if any(value == value for value in answers.mos):
        yield "mos", plots.mos_scatter(np.array(answers.mos_true), np.array(answers.mos))
        yield "residuals", plots.residuals(np.array(answers.mos_true), np.array(answers.mos))
    yield "samples", sample_figure(answers, {s.name: s.path for s in data.parts["val"]})


def sample_figure(answers: Predictions, paths: dict[str, Path]) -> "Figure":
    """A sheet of validation photos, evenly spread over the table, with what the model says of them."""
    rows = range(0, len(answers), max(1, len(answers) // SAMPLES))[:SAMPLES]
    photos = [load_image(paths[answers.names[i]]) for i in rows]
    column = {name: [getattr(answers, name)[i] for i in rows] for name in ("captions", "mos_true", "mos")}
    return plots.sample_sheet(photos, column["captions"], column["mos_true"], column["mos"])
