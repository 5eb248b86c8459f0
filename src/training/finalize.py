"""The end of a run: scores with intervals, model folder, plots and samples, in the run's folder and in MLflow.
Held by tests/training/test_run.py.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from src.common.files import write_text
from src.config.schema import Config
from src.data.image_io import load_image
from src.inference.neighbour_builder import collect_neighbours
from src.inference.predictions import Predictions, predict_batches, score_predictions
from src.inference.predictor import Predictor
from src.models.model_folder import save_model
from src.plots.curves import plot_curves
from src.plots.mos import plot_mos_residuals, plot_mos_scatter
from src.plots.sample_sheet import plot_sample_sheet
from src.tracking.held_out import PREDICTIONS
from src.tracking.mlflow_tracker import Tracker
from src.tracking.run_folder import RunFolder
from src.tracking.run_log import read_metrics
from src.training.datamodule import DataModule
from src.training.lightning_module import MultitaskModule, selection_score

SAMPLES = 12


def finalize_run(
    config: Config, folder: RunFolder, module: MultitaskModule, data: DataModule, tracker: Tracker | None
) -> None:
    """Scores the best weights on the validation images, and saves model, scores, plots and samples.

    A process of a group that is not its first has no tracker, and only predicts its part.
    """
    predictions = Predictions.join(module.group.gather(predict_validation(config, module, data)))
    if tracker is None:
        return
    values = score_predictions(predictions, module.meteor, intervals=True).scores if len(predictions) else {}
    scores = {name: asdict(score) for name, score in values.items()}
    save_model(folder.model, module.model, data.tokenizer.to_json(), config, data.meta() | {"scores": scores})
    best = selection_score({name: s["value"] for name, s in scores.items()}, config.train.select) if scores else None
    tracker.log_metrics({f"best/{name}": s["value"] for name, s in scores.items()})
    tracker.log_text(json.dumps(scores, indent=1), "scores.json")
    tracker.log_text(json.dumps(vars(predictions), ensure_ascii=False), PREDICTIONS)
    for name, figure in run_figures(predictions, folder, data):
        tracker.log_figure(figure, f"plots/{name}.png")
    if config.model.decoder.enabled and config.generate.rerank.enabled:
        collect_neighbours(Predictor.load(folder.model), data.parts["train"]).save(folder.model)
    tracker.log_model(folder.model)
    # Last, since the run `best` is chosen by it, and a run that was killed earlier has no model.
    selected = {} if best is None else {"selected": best}
    tracker.log_metrics({**selected, "train_seconds": module.seconds})
    result: dict[str, Any] = {
        "name": config.track.name,
        "model": str(folder.model),
        "run_id": tracker.run_id,
        "selected": best,
    }
    result |= {"seconds": module.seconds, "captions": module.captions, "scores": scores}
    write_text(folder.result, json.dumps(result, indent=1))


def predict_validation(config: Config, module: MultitaskModule, data: DataModule) -> Predictions:
    """The model's predictions for the validation images; none where it was trained on them."""
    if config.data.train_on_val:
        return Predictions()
    return predict_batches(module.model, data.val_loader(), config.generate, data.tokenizer, config.train.precision)


def run_figures(predictions: Predictions, folder: RunFolder, data: DataModule) -> Iterable[tuple[str, Figure]]:
    """Plots by name: losses and scores over epochs, mos, samples."""
    history = read_metrics(folder.history)
    for name, y in (("loss", "loss"), ("selected", "selected score")):
        if series := {metric: points for metric, points in history.items() if metric.endswith(f"/{name}")}:
            yield name, plot_curves(series, y=y)
    if any(value == value for value in predictions.mos):
        yield "mos", plot_mos_scatter(np.array(predictions.mos_true), np.array(predictions.mos))
        yield "residuals", plot_mos_residuals(np.array(predictions.mos_true), np.array(predictions.mos))
    if len(predictions):
        yield "samples", sample_figure(predictions, {s.name: s.path for s in data.parts["val"]})


def sample_figure(predictions: Predictions, paths: dict[str, Path]) -> Figure:
    """A sheet of validation images, evenly spread over the table, with their predictions."""
    rows = range(0, len(predictions), max(1, len(predictions) // SAMPLES))[:SAMPLES]
    images = [load_image(paths[predictions.names[i]]) for i in rows]
    column = {name: [getattr(predictions, name)[i] for i in rows] for name in ("captions", "mos_true", "mos")}
    return plot_sample_sheet(images, column["captions"], column["mos_true"], column["mos"])
