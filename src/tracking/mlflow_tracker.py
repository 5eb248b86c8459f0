"""Tracks one run in MLflow: its config, scores, plots, files and end."""

import json
import logging
import os
import platform
import threading
import time
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Any, Self, TextIO

import psutil
import yaml
from matplotlib.figure import Figure

from src.common.files import atomic_write, write_text
from src.config.schema import TrackConfig
from src.tracking.environment import ResourceMonitor, command_line, describe_machine, git_version, library_versions
from src.tracking.mlflow_client import tracking_uri
from src.tracking.mlflow_sync import RUN_ID, Outbox, Status, now_in_milliseconds
from src.tracking.run_lock import hold_run

LONGEST_PARAM, LONGEST_TAG = 6000, 5000  # characters, MLflow's limits
log = logging.getLogger(__name__)


class Tracker:
    """One run in MLflow. Every call is written to the run's log and returns at once; a thread sends the log.

    Use it as a context manager: the run ends FINISHED, FAILED after an exception, KILLED after Ctrl-C.
    A run has one tracker, in one process: rank 0 of several.
    """

    def __init__(self, folder: Path, uri: str, every: float, lock: TextIO) -> None:
        self.folder, self.lock = folder, lock
        self.outbox = Outbox(folder, uri)
        self.every = every
        self.stopped = threading.Event()
        id_file = folder / RUN_ID
        self.start_time = id_file.stat().st_mtime if id_file.exists() else time.time()
        self.thread = threading.Thread(target=self._send_regularly, name="tracker", daemon=True)
        self.monitor: ResourceMonitor | None = None

    @classmethod
    def start(
        cls,
        config: TrackConfig,
        run_folder: Path,
        params: dict[str, Any],
        tags: dict[str, str] | None = None,
        uri: str = "",
        every: float = 5.0,
        resources: float = 10.0,
    ) -> Self:
        """Begins a run, or resumes the one whose id the folder holds.

        Args:
            config: experiment, name and parent of the run.
            run_folder: the run's folder; made if need be.
            params: the run's config, nested; logged flat with dotted keys, and nested as config.yaml.
            tags: such as the data's hash; those on code, libraries and machine are added.
            uri: of the MLflow server or database; empty: `tracking_uri()`.
            every: seconds between two deliveries to MLflow.
            resources: seconds between two samples of resource use; 0: none.

        Raises:
            UserError: another process works on this run, or the address is of no kind that MLflow knows.
        """
        run_folder.mkdir(parents=True, exist_ok=True)
        tracker = cls(run_folder, uri or tracking_uri(), every, hold_run(run_folder))
        tracker._begin(config, params, tags or {})
        tracker.outbox.send(now=True)
        tracker.thread.start()
        if resources:
            tracker.monitor = ResourceMonitor(tracker._log_resources, resources)
        return tracker

    def _begin(self, config: TrackConfig, params: dict[str, Any], tags: dict[str, str]) -> None:
        call = {"call": "begin", "experiment": config.experiment, "name": config.name or self.folder.name}
        all_tags = cut_values({**standard_tags(self.folder, config), **tags}, LONGEST_TAG)
        self.outbox.log.append({**call, "tags": all_tags, "time": now_in_milliseconds()})
        self.log_params(params)
        self.log_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True), "config.yaml")
        about = {"command": command_line(), "versions": library_versions(), "machine": describe_machine()}
        self.log_text(json.dumps(about, indent=1), "environment.json")

    @property
    def run_id(self) -> str:
        """MLflow's id of this run; empty until MLflow has answered."""
        return self.outbox.run_id

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        """Scores and losses at a step."""
        values = {name: float(value) for name, value in metrics.items()}
        if values:
            call = {"call": "metrics", "metrics": values, "step": int(step), "time": now_in_milliseconds()}
            self.outbox.log.append(call)

    def log_params(self, params: dict[str, Any]) -> None:
        """Settings, nested or flat; values longer than MLflow's limit are cut, and the first value of a key stays."""
        flat = cut_values({key: str(value) for key, value in flatten_tree(params).items()}, LONGEST_PARAM)
        items = list(flat.items())
        for i in range(0, len(items), 100):
            self.outbox.log.append({"call": "params", "params": dict(items[i : i + 100])})

    def set_tags(self, tags: dict[str, Any]) -> None:
        """Facts about the run by which to find and compare it."""
        values = cut_values({key: str(value) for key, value in tags.items()}, LONGEST_TAG)
        self.outbox.log.append({"call": "tags", "tags": values})

    def log_text(self, text: str, name: str) -> None:
        """A text file, written into the run's folder and sent; `name` may hold a folder: samples/epoch_3.txt."""
        write_text(self.folder / name, text)
        self.log_artifact(self.folder / name, str(Path(name).parent))

    def log_figure(self, figure: Figure, name: str) -> None:
        """A figure, as an image in the run's folder and in MLflow: plots/scatter.png."""
        with atomic_write(self.folder / name) as part:
            figure.savefig(part)
        self.log_artifact(self.folder / name, str(Path(name).parent))

    def log_artifact(self, path: Path, to: str = "") -> None:
        """A file or a folder, which must stay in its place until it is sent.

        Args:
            path: of the file or folder.
            to: the folder in MLflow; empty: the top for a file, the folder's own name for a folder.
        """
        place = os.path.relpath(path.resolve(), self.folder.resolve())
        self.outbox.log.append({"call": "artifact", "path": place, "to": "" if to == "." else to})

    def log_model(self, folder: Path) -> None:
        """The model folder, as the artifact `model`, where `src.tracking.run_registry.find_model` looks for it."""
        self.log_artifact(folder, "model")

    def flush(self) -> bool:
        """Sends all waiting calls now. False: MLflow does not answer."""
        return self.outbox.send(now=True)

    def end(self, status: Status = "FINISHED") -> None:
        """Ends the run, sends the waiting calls, and warns where some could not be sent."""
        if self.stopped.is_set():
            return
        self.stopped.set()
        if self.monitor:
            self.monitor.stop()
        self.outbox.put_end(status)
        self.thread.join()
        if not self.flush():
            remedy = f"they are sent when the run goes on, or by: python -m src.ui --send {quote(str(self.folder))}"
            log.warning("%s: %d calls did not reach MLflow; %s", self.folder, len(self.outbox.waiting()), remedy)
        self.lock.close()

    def _send_regularly(self) -> None:
        while not self.stopped.wait(self.every):
            self.outbox.send()

    def _log_resources(self, sample: dict[str, float]) -> None:
        self.log_metrics(sample, max(0, round(time.time() - self.start_time)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or (kind is SystemExit and not getattr(error, "code", 0)):
            self.end("FINISHED")
        else:  # Lightning turns SIGTERM into its own kind of SystemExit
            self.end("KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit) else "FAILED")


def standard_tags(run_folder: Path, config: TrackConfig) -> dict[str, str]:
    """The tags of every run; MLflow's UI knows the names that begin with mlflow."""
    commit, dirty = git_version()
    tags = {
        "run_folder": str(run_folder.resolve()),
        "mlflow.source.name": command_line(),
        "mlflow.source.type": "LOCAL",
        "mlflow.user": psutil.Process().username(),
        "host": platform.node(),
        "git_dirty": str(dirty).lower(),
    }
    tags |= {name: version for name, version in library_versions().items() if name in ("torch", "timm", "lightning")}
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "git": commit}
    if config.parent:
        tags["mlflow.parentRunId"] = config.parent
    return tags


def flatten_tree(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts, and lists of dicts, as one dict with dotted keys: data.sources.0.path."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, dict):
            flat |= flatten_tree(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def cut_values(values: dict[str, str], longest: int) -> dict[str, str]:
    """Values of at most `longest` characters; the end of a longer one becomes three dots."""
    return {key: text if len(text) <= longest else text[: longest - 3] + "..." for key, text in values.items()}
