"""Finding runs: a model folder from a path, a run's id, a run's name or `best`."""

import difflib
import logging
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common.errors import UserError, one_line
from src.data.leaky_split import LEAKING
from src.tracking.mlflow_sync import database_file, file_lock, make_client, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_FILES = ("model.safetensors", "config.yaml")
log = logging.getLogger(__name__)


@dataclass
class RunRecord:
    """What is known of a run.

    Attributes:
        id: MLflow's.
        name: the run's.
        status: FINISHED, RUNNING, FAILED, KILLED or SCHEDULED.
        started: milliseconds since 1970.
        folder: the run's folder on the machine that ran it, None where unknown.
        metrics: last value of each.
        params: the config, flat, as text.
        tags: all of them.
    """

    id: str
    name: str
    status: str
    started: int
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
    experiments = {one.name: one.experiment_id for one in client.search_experiments()}
    if experiment and experiment not in experiments:
        raise UserError(f"no experiment is called {experiment}; there are: {', '.join(sorted(experiments))}")
    ids = [experiments[experiment]] if experiment else list(experiments.values())
    wanted = [f"tags.mlflow.parentRunId = '{parent}'" if parent else "", f"status = '{status}'" if status else ""]
    query: dict[str, Any] = {"filter_string": " and ".join(filter(None, wanted)), "max_results": 1000}
    page = client.search_runs(ids, order_by=["start_time DESC"], **query)
    found = list(page)
    while page.token:
        page = client.search_runs(ids, order_by=["start_time DESC"], page_token=page.token, **query)
        found += page
    return [run_from_mlflow(one) for one in found]


def open_client(uri: str = "") -> "MlflowClient":
    """A client for reading; where runs are kept in a database, it must be there.

    Raises:
        UserError: no database, or no answer.
    """
    uri = uri or tracking_uri()
    file = database_file(uri)
    if file and not file.exists():
        raise UserError(f"{file}: no runs yet; train one, or set MLFLOW_TRACKING_URI to where they are kept")
    return connect_client(uri)


def connect_client(uri: str) -> "MlflowClient":
    """A client that was answered; a new database is made.

    Raises:
        UserError: no answer.
    """
    try:
        client = make_client(uri)
        client.search_experiments(max_results=1)
    except UserError:
        raise
    except Exception as error:  # each kind of store, driver and network raises its own
        raise UserError(f"MLflow at {uri} does not answer: {' '.join(str(error).split())[:200]}") from error
    return client


def run_from_mlflow(found: Any) -> RunRecord:
    """MLflow's entity as ours."""
    info, data = found.info, found.data
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

    A sweep's name stands for its best configuration, trained out: the registered model of that name. `best` is the
    finished run with the highest selected score. The folder in the run's own folder is used where it is, else the
    artifact `model` is fetched into `cache`.

    Raises:
        UserError: nothing is called so (names the nearest), or its run kept no model.
    """
    if is_model_folder(Path(name)):
        return Path(name)
    if is_model_folder(Path(name) / "model"):
        return Path(name) / "model"
    if Path(name).is_dir():
        raise UserError(f"{name}: no model folder; one holds {' and '.join(MODEL_FILES)}")
    runs = list_runs(uri=uri)
    return fetch_model(
        best_run(runs) if name == "best" else choose_run(runs, registered_run(name, uri) or name), uri, cache
    )


def short_name(name: str) -> str:
    """What visitors read for a folder: its own name, or its run's; where it lies on this machine is nothing to them."""
    path = Path(name)
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def register_model(name: str, run_id: str, uri: str = "") -> None:
    """Makes a run's model the newest version of a registered model, and its `best`; does nothing where it is already.

    Where MLflow does not take it, a warning says so: the run itself is there all the same.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = open_client(uri)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        versions = [v for v in client.search_model_versions(f"name = '{name}'") if v.run_id == run_id]
        if not versions:
            source = f"{client.get_run(run_id).info.artifact_uri}/model"
            versions = [client.create_model_version(name, source, run_id, await_creation_for=0)]
        client.set_registered_model_alias(name, "best", versions[0].version)
    except (MlflowException, UserError) as error:
        log.warning("%s: could not be registered as a model (%s); --model takes its run's name", name, one_line(error))


def registered_run(name: str, uri: str = "") -> str:
    """The id of the run behind the `best` version of a registered model; empty: no model is registered so."""
    from mlflow.exceptions import MlflowException

    try:
        return open_client(uri).get_model_version_by_alias(name, "best").run_id or ""
    except MlflowException:  # none of that name, or none that is its best
        return ""


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a model."""
    return all((folder / file).is_file() for file in MODEL_FILES)


def best_run(runs: list[RunRecord]) -> RunRecord:
    """The finished run with the highest selected score, the older one of equals; none whose split leaks.

    Raises:
        UserError: no finished run has one.
    """
    known = [
        run for run in runs if run.status == "FINISHED" and math.isfinite(selected_score(run)) and not is_leaky_run(run)
    ]
    if not known:
        raise UserError("best: no finished run was scored; train one, or name a run or a model folder")
    return max(known, key=lambda run: (selected_score(run), -run.started))


def is_leaky_run(run: RunRecord) -> bool:
    """Whether the run's validation photos stood in its training, so that its score is out of the contest."""
    return any(key.startswith("data.sources.") and value == LEAKING for key, value in run.params.items())


def selected_score(run: RunRecord) -> float:
    """The score a run was selected on: `selected` of the model it kept, else its last val/selected; NaN: none."""
    if run.tags.get("kind") == "sweep":  # a sweep's is that of its best trial; it keeps no model
        return math.nan
    return run.metrics.get("selected", run.metrics.get("val/selected", math.nan))


def choose_run(runs: list[RunRecord], name: str) -> RunRecord:
    """The run of an id, or the newest finished run of a name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if by_id := [run for run in runs if run.id == name]:
        return by_id[0]
    named = [run for run in runs if run.name == name]
    finished = [run for run in named if run.status == "FINISHED"]
    if finished:
        return finished[0]
    if named:
        raise UserError(f"{name}: the run is {named[0].status.lower()}, not finished; let it finish or give its id")
    near = difflib.get_close_matches(name, {run.name for run in runs}, n=5, cutoff=0.4)
    known = near or [run.name for run in runs[:5]]
    raise UserError(f"{name}: no model folder and no run is called so; nearest: {', '.join(known) or 'there are none'}")


def fetch_model(run: RunRecord, uri: str = "", cache: Path = Path("cache/models")) -> Path:
    """The run's model folder on this machine, fetched from MLflow if need be.

    Raises:
        UserError: the run kept no model, or it cannot be fetched.
    """
    local = run.folder / "model" if run.folder else None
    if local and is_model_folder(local):
        return local
    kept = cache / run.id
    if is_model_folder(kept):
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    with file_lock(cache / f".{run.id}.lock"), tempfile.TemporaryDirectory(dir=cache) as part:
        if not is_model_folder(kept):
            Path(download_model(run, uri, part)).replace(kept)
    return kept


def download_model(run: RunRecord, uri: str, to: str) -> str:
    """Fetches the artifact `model` of a run. Returns its folder.

    Raises:
        UserError: there is none, or it cannot be fetched.
    """
    try:
        folder = open_client(uri).download_artifacts(run.id, "model", to)
    except Exception as error:  # each kind of artifact store raises its own
        why = one_line(error)[:120]
        raise UserError(f"{run.name} ({run.id}): its model cannot be fetched ({why}); choose another run") from error
    if not is_model_folder(Path(folder)):
        raise UserError(f"{run.name} ({run.id}): its artifact `model` is no model folder; choose another run")
    return folder
