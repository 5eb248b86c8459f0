"""The metrics that a run logged over its steps: losses, scores, use of the machine; from MLflow or the run's folder."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlflow.exceptions import MlflowException

from src.common.errors import UserError
from src.metrics.compute import score_infos
from src.reporting.embedded_images import evenly_spaced
from src.tracking.mlflow_client import open_client
from src.tracking.run_log import read_metrics

Points = list[tuple[float, float]]
MetricHistory = dict[str, Points]
"""Name of a metric, or of a line in a figure -> (step, value) in order."""
MAX_POINTS = 2000  # of a curve
LOSSES = ("loss", "caption_ce", "mos_mse", "mos_huber", "mos_plcc", "mos_rank")
RESOURCES = {
    "memory_free_gb": "free memory of the machine, GB",
    "memory_gb": "memory of the run, GB",
    "percent": "use, % of all cores or of a GPU",
}


def load_metric_history(run_id: str, history: Path) -> MetricHistory:
    """All metrics of a run: from MLflow where it has the run, else from the file history.jsonl."""
    if run_id:
        try:
            return metrics_from_mlflow(run_id)
        except UserError as error:
            print(f"{error}; losses and scores are those of {history}", file=sys.stderr)
    return metrics_from_file(history)


def metrics_from_mlflow(run_id: str) -> MetricHistory:
    """All metrics of a run in MLflow.

    Raises:
        UserError: MLflow does not respond, or has no such run.
    """
    client = open_client()
    try:
        names = client.get_run(run_id).data.metrics
    except MlflowException as error:
        raise UserError(f"run {run_id} is not in MLflow") from error
    return {name: curve((m.step, m.value) for m in client.get_metric_history(run_id, name)) for name in names}


def metrics_from_file(history: Path) -> MetricHistory:
    """All metrics of a run folder's history.jsonl; empty where the file does not exist."""
    return {name: curve(points) for name, points in read_metrics(history).items()}


def curve(points: Iterable[tuple[float, float]]) -> Points:
    """Points by step, evenly thinned to 2,000; of a step that was repeated after a kill, the last value counts."""
    ordered = sorted((float(step), float(value)) for step, value in dict(points).items())
    return [ordered[i] for i in evenly_spaced(len(ordered), MAX_POINTS)]


def loss_panels(runs: Mapping[str, MetricHistory]) -> dict[str, MetricHistory]:
    """Loss -> line -> points: of training and of validation, for each run."""
    panels: dict[str, MetricHistory] = {}
    for run, history in runs.items():
        names = [name.removeprefix("train/") for name in history if name.startswith("train/")]
        for loss in dict.fromkeys([*LOSSES, *names]):
            for part in ("train", "val"):
                if points := history.get(f"{part}/{loss}"):
                    panels.setdefault(loss, {})[part if len(runs) == 1 else f"{run}, {part}"] = points
    return dict(sorted(panels.items(), key=lambda item: (item[0] != "loss", item[0])))


def score_panels(runs: Mapping[str, MetricHistory]) -> dict[str, MetricHistory]:
    """Score -> run -> points, of the validation images."""
    panels = {
        score: {run: history[f"val/{score}"] for run, history in runs.items() if history.get(f"val/{score}")}
        for score in ("selected", *score_infos())
    }
    return {score: lines for score, lines in panels.items() if lines}


def resource_panels(runs: Mapping[str, MetricHistory]) -> dict[str, MetricHistory]:
    """Resource -> device of a run -> (minutes, use)."""
    panels: dict[str, MetricHistory] = {}
    for run, history in runs.items():
        for name, points in history.items():
            suffix = next((suffix for suffix in RESOURCES if name.endswith(suffix)), "")
            if not (name.startswith("system/") and suffix):
                continue
            device = name.removeprefix("system/").removesuffix(suffix).strip("_") or "memory"
            line = device if len(runs) == 1 else f"{run}, {device}"
            panels.setdefault(RESOURCES[suffix], {})[line] = [(seconds / 60, value) for seconds, value in points]
    return panels
