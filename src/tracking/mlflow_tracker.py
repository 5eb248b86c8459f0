"""All that speaks to MLflow: one run's config, scores, plots and files."""

import fcntl
import json
import logging
import os
import platform
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TextIO

import psutil
import yaml

from src.common.errors import UserError
from src.common.files import atomic_write, write_text
from src.config.schema import TrackConfig
from src.tracking.environment import ResourceMonitor, command_line, describe_machine, git_version, library_versions
from src.tracking.mlflow_sync import RUN_ID, SPOOL, Outbox, tracking_uri
from src.tracking.run_registry import list_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Status = Literal["FINISHED", "FAILED", "KILLED"]
LOCK = ".tracking.lock"  # in a run's folder
LONGEST_VALUE = 6000  # characters of a param, MLflow's limit
log = logging.getLogger(__name__)


class Tracker:
    """One run in MLflow. Every call returns at once; a thread sends, and what cannot be sent waits in the run's folder.

    Use it as a context manager: the run ends FINISHED, FAILED after an exception, KILLED after Ctrl-C.
    Make one a run, in one process: rank 0 of several.
    """

    def __init__(self, folder: Path, uri: str, every: float, lock: TextIO) -> None:
        self.folder, self.lock = folder, lock
        self.outbox = Outbox(folder, uri)
        self.every = every
        self.over = threading.Event()
        self.ended = False
        known = folder / RUN_ID
        self.began = known.stat().st_mtime if known.exists() else time.time()
        self.thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self.monitor: ResourceMonitor | None = None

    @classmethod
    def start(
        cls,
        config: TrackConfig,
        run_folder: Path,
        params: dict[str, Any],
        tags: dict[str, str] | None = None,
        resume: bool = True,
        uri: str = "",
        every: float = 5.0,
        resources: float = 10.0,
    ) -> "Tracker":
        """Begins a run; with `resume` it goes on in the one whose id the folder keeps, where it keeps one.

        Args:
            config: experiment, name and parent of the run.
            run_folder: the run's folder; made if need be.
            params: the run's config, nested; logged flat with dotted keys, and whole as config.yaml.
            tags: more about the run, such as the data's hash; tags on code, libraries and machine come by themselves.
            uri: of the MLflow server or database; empty: `tracking_uri()`.
            every: seconds between two deliveries to MLflow.
            resources: seconds between two samples of resource use; 0: none.

        Raises:
            UserError: another process works on this run, or the address is of no kind that MLflow knows.
        """
        run_folder.mkdir(parents=True, exist_ok=True)
        lock = hold_run(run_folder)
        if not resume:
            set_aside_run(run_folder)
        tracker = cls(run_folder, uri or tracking_uri(), every, lock)
        tracker._begin(config, params, tags or {})
        tracker.outbox.send(now=True)
        tracker.thread.start()
        if resources:
            tracker.monitor = ResourceMonitor(tracker._log_resources, resources)
        return tracker

    def _begin(self, config: TrackConfig, params: dict[str, Any], tags: dict[str, str]) -> None:
        name = config.name or self.folder.name
        all_tags = {**standard_tags(self.folder, config), **tags}
        begin = {"call": "begin", "experiment": config.experiment, "name": name, "tags": cut_values(all_tags, 5000)}
        self.outbox.put({**begin, "time": now_in_milliseconds()})
        self.log_params(params)
        self.log_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True), "config.yaml")
        about = {"command": command_line(), "versions": library_versions(), "machine": describe_machine()}
        self.log_text(json.dumps(about, indent=1), "environment.json")

    @property
    def run_id(self) -> str:
        """MLflow's id of this run; empty while MLflow has not been reached yet."""
        return self.outbox.run_id

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        """Scores and losses at a step."""
        values = {name: float(value) for name, value in metrics.items()}
        if values:
            self.outbox.put({"call": "metrics", "metrics": values, "step": int(step), "time": now_in_milliseconds()})

    def log_params(self, params: dict[str, Any]) -> None:
        """Settings, nested or flat; values longer than MLflow takes are cut, and the first value of a key stays."""
        flat = cut_values({key: str(value) for key, value in flatten_tree(params).items()}, LONGEST_VALUE)
        items = list(flat.items())
        for i in range(0, len(items), 100):
            self.outbox.put({"call": "params", "params": dict(items[i : i + 100])})

    def set_tags(self, tags: dict[str, Any]) -> None:
        """Facts about the run by which to find and compare it."""
        self.outbox.put({"call": "tags", "tags": cut_values({key: str(value) for key, value in tags.items()}, 5000)})

    def log_text(self, text: str, name: str) -> None:
        """A text file, written into the run's folder and sent; `name` may hold a folder: samples/epoch_3.txt."""
        write_text(self.folder / name, text)
        self.log_artifact(self.folder / name, str(Path(name).parent))

    def log_figure(self, figure: "Figure", name: str) -> None:
        """A figure, as an image in the run's folder and in MLflow: plots/scatter.png."""
        with atomic_write(self.folder / name) as part:
            figure.savefig(part)
        self.log_artifact(self.folder / name, str(Path(name).parent))

    def log_artifact(self, path: Path, to: str = "") -> None:
        """A file, or a whole folder, which must stay where it is until it is sent.

        Args:
            path: what to send.
            to: the folder in MLflow; empty: the top for a file, the folder's own name for a folder.
        """
        place = os.path.relpath(path.resolve(), self.folder.resolve())
        self.outbox.put({"call": "artifact", "path": place, "to": "" if to == "." else to})

    def log_model(self, folder: Path) -> None:
        """The model folder, as the artifact `model`, where `src.tracking.run_registry.find_model` looks for it."""
        self.log_artifact(folder, "model")

    def flush(self) -> bool:
        """Sends all that waits, now. False: MLflow does not answer."""
        return self.outbox.send(now=True)

    def end(self, status: Status = "FINISHED") -> None:
        """Ends the run, sends what waits, and names what could not be sent."""
        if self.ended:
            return
        self.ended = True
        if self.monitor:
            self.monitor.stop()
        self.outbox.put({"call": "end", "status": status, "time": now_in_milliseconds()})
        self.over.set()
        self.thread.join()
        if not self.flush():
            remedy = f"they are sent when the run goes on, or by: python -m src.ui --send {self.folder}"
            log.warning("%s: %d calls did not reach MLflow; %s", self.outbox.spool, len(self.outbox.waiting()), remedy)
        self.lock.close()

    def _work(self) -> None:
        while not self.over.wait(self.every):
            self.outbox.send()

    def _log_resources(self, sample: dict[str, float]) -> None:
        self.log_metrics(sample, max(0, round(time.time() - self.began)))

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or (kind is SystemExit and not getattr(error, "code", 0)):
            self.end("FINISHED")
        else:  # Lightning turns SIGTERM into its own kind of SystemExit
            self.end("KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit) else "FAILED")


def send_missed(run_folder: Path, uri: str = "") -> bool:
    """Sends what a run could not send while it went on. True: nothing waits any more.

    Raises:
        UserError: the run is going on, and sends by itself.
    """
    with hold_run(run_folder):
        return Outbox(run_folder, uri or tracking_uri()).send(now=True)


def end_abandoned(run_folder: Path, status: Status, uri: str = "", tags: dict[str, str] | None = None) -> bool:
    """Ends a run whose process is gone without having ended it. False: the process is there, or nothing to end.

    Args:
        run_folder: the run's.
        status: MLflow's.
        uri: MLflow's address; empty: the usual one.
        tags: to set beside, since the process did not.
    """
    if not (run_folder / RUN_ID).exists():
        return False
    try:
        lock = hold_run(run_folder)
    except UserError:  # its process is at work, and will end it
        return False
    with lock:
        outbox = Outbox(run_folder, uri or tracking_uri())
        if any(call["call"] == "end" for call in outbox.waiting()[-1:]):  # written, but killed before it was sent
            return outbox.send(now=True)
        if not outbox.is_running():
            return False
        if tags:
            outbox.put({"call": "tags", "tags": tags})
        outbox.put({"call": "end", "status": status, "time": now_in_milliseconds()})
        return outbox.send(now=True)


def end_when_gone(run_folder: Path, status: Status, seconds: float = 10.0, tags: dict[str, str] | None = None) -> bool:
    """As end_abandoned, but waits up to `seconds` for a process that is about to go."""
    last = time.monotonic() + seconds
    while not end_abandoned(run_folder, status, tags=tags):
        if time.monotonic() > last or not is_run_held(run_folder):
            return False
        time.sleep(0.2)
    return True


def wait_until_free(run_folder: Path) -> None:
    """Waits as long as another process works on a run."""
    while run_folder.is_dir() and is_run_held(run_folder):
        time.sleep(0.2)


def is_run_held(run_folder: Path) -> bool:
    """Whether another process works on a run."""
    try:
        hold_run(run_folder).close()
    except UserError:
        return True
    return False


def end_all_abandoned(uri: str = "") -> int:
    """Ends, as KILLED, every run of this machine that is RUNNING in MLflow but has no process. Returns how many."""
    runs = [run for run in list_runs(status="RUNNING", uri=uri) if run.tags.get("host") == platform.node()]
    return sum(end_abandoned(run.folder, "KILLED", uri) for run in runs if run.folder and run.folder.is_dir())


def hold_run(run_folder: Path) -> TextIO:
    """An open file whose lock says that this process works on the run; closing it, or the process's end, frees it.

    Raises:
        UserError: another process holds it.
    """
    file = (run_folder / LOCK).open("a")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, not kept by loader processes left behind
    except (BlockingIOError, PermissionError) as error:
        file.close()
        raise UserError(f"{run_folder}: another process works on this run; wait for it or end it") from error
    except OSError as error:  # a network disk without locks
        log.warning("%s: cannot be locked (%s); let no second process work on this run", run_folder, error.strerror)
    return file


def set_aside_run(run_folder: Path) -> None:
    """Makes room for a new run in a folder that had one; what MLflow never heard of the old one stays, renamed."""
    known, spool = run_folder / RUN_ID, run_folder / SPOOL
    if spool.exists():
        spool.rename(run_folder / f"untracked-{now_in_milliseconds()}.jsonl")
    known.unlink(missing_ok=True)


def standard_tags(run_folder: Path, config: TrackConfig) -> dict[str, str]:
    """What every run is tagged with; the names that begin with mlflow. are those its UI knows."""
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
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            value = {str(i): one for i, one in enumerate(value)}
        if isinstance(value, dict):
            flat |= flatten_tree(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def cut_values(values: dict[str, str], longest: int) -> dict[str, str]:
    """Values no longer than `longest` characters; the end of a longer one becomes three dots."""
    return {key: text if len(text) <= longest else text[: longest - 3] + "..." for key, text in values.items()}


def now_in_milliseconds() -> int:
    """The time now as MLflow counts it."""
    return int(time.time() * 1000)
