"""Finds the model folder of a path, a run's name or id, or `best`, in run folders and in MLflow; lists MLflow runs."""

import difflib
import logging
import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.common.errors import UserError, one_line
from src.common.file_locks import file_lock
from src.data.leaky_split import LEAKING
from src.tracking.finished_runs import MODEL_FILES, find_group, find_model_here, finished_runs, is_model_folder
from src.tracking.mlflow_client import database_names, import_mlflow, open_client, tracking_uri

RUN_ID_FORM = re.compile("[0-9a-f]{32}")
log = logging.getLogger(__name__)


@dataclass
class RunRecord:
    """A run in MLflow.

    Attributes:
        id: MLflow's.
        name: the run's.
        status: FINISHED, RUNNING, FAILED, KILLED or SCHEDULED.
        start_time: milliseconds since 1970.
        folder: the run's folder on the machine that ran it, None where unknown.
        metrics: last value of each.
        params: the config, flat, as text.
        tags: all of them.
    """

    id: str
    name: str
    status: str
    start_time: int
    folder: Path | None
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]


def list_runs(experiment: str = "", parent: str = "", status: str = "", uri: str = "") -> list[RunRecord]:
    """Runs of an experiment (empty: of all), newest first; only those of a parent run or of a status, where given.

    Raises:
        UserError: there is no such experiment, no runs at all, or MLflow does not answer.
    """
    client = open_client(uri)
    experiments = {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}
    if experiment and experiment not in experiments:
        raise UserError(f"no experiment is called {experiment}; there are: {', '.join(sorted(experiments))}")
    ids = [experiments[experiment]] if experiment else list(experiments.values())
    conditions = [f"tags.mlflow.parentRunId = '{parent}'" if parent else "", f"status = '{status}'" if status else ""]
    query: dict[str, Any] = {"filter_string": " and ".join(filter(None, conditions)), "max_results": 1000}
    page = client.search_runs(ids, order_by=["start_time DESC"], **query)
    runs = list(page)
    while page.token:
        page = client.search_runs(ids, order_by=["start_time DESC"], page_token=page.token, **query)
        runs += page
    return [run_from_mlflow(run) for run in runs]


def run_from_mlflow(run: Any) -> RunRecord:
    """The record of MLflow's entity."""
    info, data = run.info, run.data
    folder = data.tags.get("run_folder")
    return RunRecord(
        info.run_id,
        info.run_name or "",
        info.status,
        info.start_time or 0,
        Path(folder) if folder else None,
        dict(data.metrics),
        dict(data.params),
        dict(data.tags),
    )


def find_model(name: str, uri: str = "", cache: Path = Path("cache/models")) -> Path:
    """The model folder for a path, an MLflow run id, a sweep's or a run's name (its newest finished run) or `best`.

    Run folders in runs/ come first, as find_model_here says; MLflow is asked where none of them fits. There, a sweep's
    name stands for the registered model of that name, and `best` for the finished run with the highest selected score.
    Where the run's folder is on another machine, the artifact `model` is downloaded into `cache`.

    Raises:
        UserError: no run has this name (the message lists the nearest), its run has no model, or it is a group of runs.
    """
    if is_model_folder(Path(name)):
        return Path(name)
    if is_model_folder(Path(name) / "model"):
        return Path(name) / "model"
    if model := find_model_here(name):
        return model
    if group := find_group(name):
        raise UserError(f"{name}: a group of {len(group.members)} models; name one here, such as {group.members[0]}")
    if Path(name).is_dir():
        raise UserError(f"{name}: no model folder; one holds {' and '.join(MODEL_FILES)}")
    check_name(name, uri)
    runs = list_runs(uri=uri)
    run = best_run(runs) if name == "best" else choose_run(runs, registered_run(name, uri) or name)
    return fetch_model(run, uri, cache)


def short_name(name: str) -> str:
    """The name of a model that visitors read: its run's or its folder's, without the path on this machine."""
    path = Path(name)
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def register_model(name: str, run_id: str, uri: str = "") -> None:
    """Makes a run's model a version of a registered model, where it is none yet, and its `best`.

    Where MLflow refuses, a warning says so: the run is in MLflow all the same.
    """
    try:
        client = open_client(uri)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        versions = [v for v in client.search_model_versions(f"name = '{name}'") if v.run_id == run_id]
        if not versions:
            source = f"{client.get_run(run_id).info.artifact_uri}/model"
            versions = [client.create_model_version(name, source, run_id, await_creation_for=0)]
        client.set_registered_model_alias(name, "best", versions[0].version)
    except (import_mlflow().exceptions.MlflowException, UserError) as error:
        log.warning("%s: could not be registered as a model (%s); --model takes its run's name", name, one_line(error))


def registered_run(name: str, uri: str = "") -> str:
    """The run id of the `best` version of a registered model; empty: no registered model has this name."""
    try:
        return open_client(uri).get_model_version_by_alias(name, "best").run_id or ""
    except import_mlflow().exceptions.MlflowException:  # no such name, or no version is its best
        return ""


def check_name(name: str, uri: str = "") -> None:
    """Raises UserError where a database on this machine lacks a name: at once, since MLflow takes seconds to start."""
    names = database_names(uri or tracking_uri())
    if name != "best" and names is not None and name not in names and (names or finished_runs()):
        raise unknown_name(name, names)


def unknown_name(name: str, names: set[str]) -> UserError:
    """The error of a name that no run has; it lists the nearest of the names that MLflow or the run folders have."""
    known = {name for name in names if not RUN_ID_FORM.fullmatch(name)} | {run.folder.name for run in finished_runs()}
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or sorted(known)[:5]
    return UserError(f"{name}: no model folder and no run is called so; nearest: {', '.join(near) or 'there are none'}")


def best_run(runs: list[RunRecord]) -> RunRecord:
    """The finished run with the highest selected score, the older of equals; runs whose split leaks do not count.

    Raises:
        UserError: no finished run has one.
    """
    finished = [run for run in runs if run.status == "FINISHED" and not is_leaky_run(run)]
    scored = [run for run in finished if math.isfinite(selected_score(run))]
    if not scored:
        raise UserError("best: no finished run was scored; train one, or name a run or a model folder")
    return max(scored, key=lambda run: (selected_score(run), -run.start_time))


def is_leaky_run(run: RunRecord) -> bool:
    """Whether the run's training data held its validation photos, so that its score does not count."""
    return any(key.startswith("data.sources.") and value == LEAKING for key, value in run.params.items())


def selected_score(run: RunRecord) -> float:
    """The selected score of a run's model, else its last val/selected; NaN: none."""
    if run.tags.get("kind") == "sweep":  # a sweep's score is that of its best trial; it has no model
        return math.nan
    return run.metrics.get("selected", run.metrics.get("val/selected", math.nan))


def choose_run(runs: list[RunRecord], name: str) -> RunRecord:
    """The run of an id, or the newest finished run of a name.

    Raises:
        UserError: there is none; the message lists the nearest.
    """
    if by_id := [run for run in runs if run.id == name]:
        return by_id[0]
    named = [run for run in runs if run.name == name]
    finished = [run for run in named if run.status == "FINISHED"]
    if finished:
        return finished[0]
    if named:
        raise UserError(f"{name}: the run is {named[0].status.lower()}, not finished; let it finish or give its id")
    raise unknown_name(name, {run.name for run in runs})


def fetch_model(run: RunRecord, uri: str = "", cache: Path = Path("cache/models")) -> Path:
    """The run's model folder on this machine, downloaded from MLflow if need be.

    Raises:
        UserError: the run has no model, or it cannot be downloaded.
    """
    local = run.folder / "model" if run.folder else None
    if local and is_model_folder(local):
        return local
    if moved := find_model_here(run.id):
        return moved
    download = cache / run.id
    if is_model_folder(download):
        return download
    cache.mkdir(parents=True, exist_ok=True)
    with file_lock(cache / f".{run.id}.lock"), tempfile.TemporaryDirectory(dir=cache) as part:
        if not is_model_folder(download):
            Path(download_model(run, uri, part)).replace(download)
    return download


def download_model(run: RunRecord, uri: str, to: str) -> str:
    """Downloads the artifact `model` of a run into `to`. Returns its folder.

    Raises:
        UserError: there is none, or it cannot be downloaded.
    """
    try:
        folder = open_client(uri).download_artifacts(run.id, "model", to)
    except Exception as error:  # each kind of artifact store raises its own
        reason = one_line(error)[:120]
        raise UserError(f"{run.name} ({run.id}): its model cannot be fetched ({reason}); choose another run") from error
    if not is_model_folder(Path(folder)):
        raise UserError(f"{run.name} ({run.id}): its artifact `model` is no model folder; choose another run")
    return folder
