"""Saved views of the MLflow UI: tables of runs that open with the scores, and a search's with what it searched.

The UI keeps a view in a tag of the experiment, as deflated JSON, and opens it by the tag's last word in the address
(as MLflow 3.17 writes and reads it). A person's own views have other names and stay as they are.
"""

import base64
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from src.metrics.compute import headline_scores
from src.tracking.run_registry import RunRecord, list_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "mlflow.sharedViewState."
KIND = ("mlflow.experimentKind", "custom_model_development")  # else an experiment opens as one of language models
SEARCHED = ("val/selected", "val/quality", "val/captioning")  # trials that run or were stopped have them, too


@dataclass
class SavedView:
    """A table of runs.

    Attributes:
        key: the tag's last word.
        name: what the UI calls it.
        columns: as the UI names them.
        order: a metric; runs that have more of it come first.
        filter: which runs, in MLflow's search syntax; empty: all.
    """

    key: str
    name: str
    columns: list[str]
    order: str
    filter: str = ""

    def state(self) -> dict[str, Any]:
        """The state that the UI stores."""
        return {
            "searchFilter": self.filter,
            "orderByKey": f"metrics.`{self.order}`",
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": self.columns,
            "columnOrder": [],
            "columnWidths": {},
            "runsHiddenMode": "FIRST_20_RUNS",
            "runsExpanded": {},
            "runsPinned": [],
            "runsHidden": [],
            "viewMaximized": False,
            "runListHidden": False,
            "isAccordionReordered": False,
            "useGroupedValuesInCharts": True,
            "hideEmptyCharts": True,
            "groupBy": None,
            "groupsExpanded": {},
        }

    def tag(self, now: int) -> str:
        """The tag's value; `now` in milliseconds since 1970."""
        packed = base64.b64encode(zlib.compress(json.dumps(self.state()).encode())).decode()
        return json.dumps({"name": self.name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def save_views(client: "MlflowClient") -> dict[str, str]:
    """Writes the views of every experiment that has runs. Returns each one's address in the UI, after its host."""
    addresses = {}
    for experiment in client.search_experiments():
        if not (runs := list_runs(experiment.name, uri=client.tracking_uri)):
            continue
        client.set_experiment_tag(experiment.experiment_id, *KIND)
        for view in experiment_views(runs):
            client.set_experiment_tag(experiment.experiment_id, TAG + view.key, view.tag(int(time.time() * 1000)))
            addresses[f"{experiment.name}: {view.name}"] = view_address(experiment.experiment_id, view)
    return addresses


def experiment_views(runs: Sequence[RunRecord]) -> Iterator[SavedView]:
    """All runs of an experiment by their scores; then, newest first, each search's trials by what was searched."""
    scores = ["selected", *(f"best/{name}" for name in headline_scores())]
    yield SavedView("scores", "scores", ["attributes.`Source`", *metric_columns(runs, scores)], scores[0])
    for sweep in dict.fromkeys(run.tags["sweep"] for run in runs if "sweep" in run.tags):
        trials = [run for run in runs if run.tags.get("sweep") == sweep and run.tags.get("kind") != "sweep"]
        searched = sorted({name for run in trials for name in run.params if name.startswith("search.")})
        columns = ["tags.`status`", *metric_columns(trials, SEARCHED), *(f"params.`{name}`" for name in searched)]
        which = f"tags.sweep = '{sweep}' and tags.kind = 'run'"
        yield SavedView(f"sweep-{sweep}", f"search {sweep}", columns, SEARCHED[0], which)


def metric_columns(runs: Sequence[RunRecord], names: Sequence[str]) -> list[str]:
    """The columns of the metrics that any run has."""
    return [f"metrics.`{name}`" for name in names if any(name in run.metrics for run in runs)]


def view_address(experiment: str, view: SavedView) -> str:
    """The address of a view in the UI, after its host."""
    return f"/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={quote(view.key)}"
