"""What a run logged over time: losses, scores, and the machine's use, from MLflow or from the run's folder."""

import sys
from collections.abc import Mapping
from pathlib import Path

from src.common.errors import UserError
from src.reporting.images import evenly_spaced
from src.tracking.run_log import read_metrics

Points = list[tuple[float, float]]
Logged = dict[str, Points]
MOST_POINTS = 2000  # of a curve
SCORES = (
    *("selected", "quality", "plcc", "srcc", "krcc", "rmse"),
    *("captioning", "cider_d", "meteor", "bleu_1", "bleu_4", "rouge_l", "rouge_1_mean"),
    *("distinct_captions", "vocabulary_used"),
)
LOSSES = ("loss", "caption_ce", "mos_mse", "mos_huber", "mos_plcc", "mos_rank")
SYSTEM = {
    "percent": "use, % of all cores or of a GPU",
    "memory_gb": "memory of the run, GB",
    "memory_free_gb": "free memory of the machine, GB",
}


def logged_metrics(run_id: str, history: Path) -> Logged:
    """Name -> (step, value) in order, of every metric: from MLflow where it knows the run, else from the history."""
    if run_id:
        try:
            return thin_curve(metrics_from_mlflow(run_id))
        except UserError as error:
            print(f"{error}; losses and scores are those of {history}", file=sys.stderr)
    return thin_curve(read_metrics(history))


def metrics_from_mlflow(run_id: str) -> Logged:
    """Every metric's history in MLflow.

    Raises:
        UserError: MLflow does not answer, or knows no such run.
    """
    from mlflow.exceptions import MlflowException

    from src.tracking.mlflow_client import open_client

    client = open_client()
    try:
        names = client.get_run(run_id).data.metrics
    except MlflowException as error:
        raise UserError(f"run {run_id} is not in MLflow") from error
    return {name: order_by_step({m.step: m.value for m in client.get_metric_history(run_id, name)}) for name in names}


def order_by_step(points: Mapping[float, float]) -> Points:
    """By step; a step done twice, after a kill, counts once."""
    return sorted((float(step), float(value)) for step, value in points.items())


def thin_curve(series: Logged) -> Logged:
    """No more points of a curve than a figure can show."""
    return {name: [points[i] for i in evenly_spaced(len(points), MOST_POINTS)] for name, points in series.items()}


def loss_panels(runs: Mapping[str, Logged]) -> dict[str, Logged]:
    """Loss -> line -> points: in training and in validation, of each run."""
    groups: dict[str, Logged] = {}
    for run, series in runs.items():
        logged_ones = [name.removeprefix("train/") for name in series if name.startswith("train/")]
        for loss in dict.fromkeys([*LOSSES, *logged_ones]):
            for part in ("train", "val"):
                if points := series.get(f"{part}/{loss}"):
                    line = part if len(runs) == 1 else f"{run}, {part}"
                    groups.setdefault(loss, {})[line] = points
    return dict(sorted(groups.items(), key=lambda item: (item[0] != "loss", item[0])))


def score_panels(runs: Mapping[str, Logged]) -> dict[str, Logged]:
    """Score -> run -> points, of the validation photos."""
    found = {score: {run: s[f"val/{score}"] for run, s in runs.items() if s.get(f"val/{score}")} for score in SCORES}
    return {score: lines for score, lines in found.items() if lines}


def system_panels(runs: Mapping[str, Logged]) -> dict[str, Logged]:
    """Resource -> line -> (minutes, use), of each run."""
    groups: dict[str, Logged] = {}
    for run, series in runs.items():
        for name, points in series.items():
            what = name.removeprefix("system/")
            ending = next((e for e in ("memory_free_gb", "memory_gb", "percent") if what.endswith(e)), "")
            if what == name or not ending:
                continue
            device = what.removesuffix(ending).strip("_") or "memory"
            line = device if len(runs) == 1 else f"{run}, {device}"
            groups.setdefault(SYSTEM[ending], {})[line] = [(seconds / 60, value) for seconds, value in points]
    return groups
