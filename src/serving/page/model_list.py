"""The models that the page lists: those of --model, of the run folders here, and, once it has answered, of MLflow.
Held by tests/serving/test_page.py.
"""

import math
import time
from pathlib import Path
from threading import Thread

import streamlit as st

from src.common.errors import UserError, one_line
from src.tracking.finished_runs import GROUP, find_group, finished_runs, is_model_folder
from src.tracking.mlflow_client import tracking_uri
from src.tracking.mlflow_sync import read_run_id
from src.tracking.run_registry import (
    RunRecord,
    find_model,
    is_leaky_run,
    list_runs,
    selected_score,
    short_name,
)

MAX_MODELS = 50  # of those that only MLflow has
MAX_AGE = 30.0  # seconds until MLflow is read again


class MlflowRuns:
    """The runs in MLflow, read by a thread: MLflow takes seconds to import, and a server may not answer at all.

    Attributes:
        runs: all runs, newest first; those of the last reading while the next is under way.
        problem: why they could not be read; empty: they could.
        loading: whether the first reading is under way.
    """

    def __init__(self, uri: str) -> None:
        self.uri, self.runs, self.problem, self.loading = uri, list[RunRecord](), "", True
        self.thread = Thread()
        self.read_at = -math.inf

    def refresh(self) -> None:
        """Starts a reading, unless one is under way or the last is recent."""
        if not self.thread.is_alive() and time.monotonic() - self.read_at > MAX_AGE:
            self.thread = Thread(target=self._read, daemon=True)
            self.thread.start()

    def _read(self) -> None:
        try:
            self.runs, self.problem = list_runs(uri=self.uri), ""
        except UserError as error:
            self.runs, self.problem = [], str(error)
        except Exception as error:  # each kind of store raises its own
            self.problem = f"MLflow could not be read: {one_line(error)[:200]}"
        self.read_at, self.loading = time.monotonic(), False


def mlflow_runs() -> MlflowRuns:
    """The runs in MLflow, as one reading for all visitors."""
    return cached_mlflow_runs(tracking_uri())


@st.cache_resource(show_spinner=False)
def cached_mlflow_runs(uri: str) -> MlflowRuns:
    """The reader of an address."""
    return MlflowRuns(uri)


def available_models(named: tuple[str, ...], mlflow: list[RunRecord]) -> dict[str, str]:
    """Label -> name: the named models and groups, then the runs and groups here and the runs that only MLflow has.

    Raises:
        UserError: a named model does not exist.
    """
    folders = [named_folder(name) for name in named]
    local = [*local_models(runs := Path("runs").resolve()), *sorted(path.parent for path in runs.glob(f"*/{GROUP}"))]
    runs_here = [path for path in local if path not in folders]
    models: dict[str, str] = {}
    for name in [*named, *map(str, runs_here)]:
        label = short_name(name)
        models.setdefault(label if models.get(label, name) == name else f"{label} ({len(models) + 1})", name)
    ids = {read_run_id(path.parent) for path in [*folders, *runs_here]}
    return models | {f"{run.name} ({run.id[:6]})": run.id for run in models_of_mlflow(mlflow) if run.id not in ids}


def named_folder(name: str) -> Path:
    """The folder of a model, by its name for find_model, or of a group.

    Raises:
        UserError: there is none.
    """
    if group := find_group(name):
        return group.folder.resolve()
    return (find_model(name) if Path(name).is_dir() else cached_folder(name)).resolve()


@st.cache_data(ttl=600, show_spinner="looking for the model")
def cached_folder(name: str) -> Path:
    """The model folder of a name that is no folder here, which MLflow may have to be asked for."""
    return find_model(name)


@st.cache_data(ttl=10, show_spinner=False)
def local_models(runs: Path) -> list[Path]:
    """The model folders of a folder of runs, the highest selected score first; a run without a model is not listed."""
    folders = [path for path in runs.glob("*/model") if is_model_folder(path)]
    scores = {run.model: run.selected for run in finished_runs(runs) if not run.leaky and math.isfinite(run.selected)}
    return sorted(folders, key=lambda path: (-scores.get(path, -math.inf), path))


def models_of_mlflow(runs: list[RunRecord]) -> list[RunRecord]:
    """The runs that have a model, the highest selected score first; `selected` is logged after the model."""
    models = [run for run in runs if run.status == "FINISHED" and "selected" in run.metrics and not is_sweep(run)]
    return sorted(models, key=lambda run: (is_leaky_run(run), -selected_score(run)))[:MAX_MODELS]


def is_sweep(run: RunRecord) -> bool:
    """Whether a run stands for a whole search: its score is that of its best trial, and it has no model."""
    return run.tags.get("kind") == "sweep"
