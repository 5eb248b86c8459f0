"""Calls to MLflow, kept in the run's folder until they are sent, in order: a server that goes away stops no training.

A call is one JSON line of `untracked.jsonl`. It goes there first and leaves when MLflow has taken it, so what a killed
process left is sent when its run goes on. After a kill between the two, a call may be sent twice, never lost. A file
that cannot be stored lets the calls behind it pass.
"""

import fcntl
import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common.errors import UserError, one_line
from src.common.files import write_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

SPOOL, RUN_ID = "untracked.jsonl", "run_id.txt"
REFUSED = (400, 404, 409, 413, 422)  # the call itself is at fault: sending it again would be refused again
LONGEST_PAUSE = 300.0  # seconds
log = logging.getLogger(__name__)


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database mlflow.db in the current folder, as an absolute address.

    A worker in another folder is given it as MLFLOW_TRACKING_URI.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    return uri if "?" in uri or not (file := database_file(uri)) else f"sqlite:///{file}"


def database_file(uri: str) -> Path | None:
    """The file of a SQLite address, None for any other."""
    prefix = "sqlite:///"
    return Path(uri[len(prefix) :].partition("?")[0]).resolve() if uri.startswith(prefix) else None


def make_client(uri: str) -> "MlflowClient":
    """A client for an MLflow server or database; a new database is made by one process at a time.

    Raises:
        UserError: the address is of no kind that MLflow knows.
    """
    set_mlflow_defaults()
    from mlflow.exceptions import MlflowException

    try:
        with database_lock(database_file(uri)):
            return connect(uri)
    except MlflowException as error:
        if http_status(error) not in REFUSED:  # the address is right, its database is in trouble
            raise
        raise UserError(f"MLFLOW_TRACKING_URI {uri}: {' '.join(str(error).split())[:200]}") from error


def connect(uri: str) -> "MlflowClient":
    """A client; for a new database this makes the tables."""
    from mlflow import MlflowClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Alembic's, on MLflow's own tables
        return MlflowClient(uri)


@contextmanager
def database_lock(file: Path | None) -> Iterator[None]:
    """Keeps other processes out while a database is made: two at once fail."""
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(file.with_name(file.name + ".lock"), shared=file.exists()):
        yield


def set_mlflow_defaults() -> None:
    """Defaults for MLflow that the user's own settings override: short waits, no telemetry, no chatter."""
    for name, value in {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # one warning an outage is ours to give
    logging.getLogger("alembic").setLevel(logging.WARNING)


@contextmanager
def file_lock(path: Path, shared: bool = False) -> Iterator[None]:
    """Holds a file's lock, against other processes, waiting for it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@dataclass
class Delivery:
    """What became of the calls that waited.

    Attributes:
        tried: how many of them, from the oldest on.
        kept: those tried that go on waiting.
        trouble: why not all were taken; empty: all were.
    """

    tried: int = 0
    kept: list[dict[str, Any]] = field(default_factory=list)
    trouble: str = ""

    @property
    def sent(self) -> int:
        """How many wait no more."""
        return self.tried - len(self.kept)


class Outbox:
    """The calls of one run that MLflow has not taken yet.

    Args:
        folder: the run's folder.
        uri: of the MLflow server or database.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self.client: MlflowClient | None = None
        self.pause, self.next_try = 0.0, 0.0
        self.writing, self.sending = threading.Lock(), threading.Lock()
        self._mend()

    @property
    def spool(self) -> Path:
        """The file of calls that wait."""
        return self.folder / SPOOL

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; empty before MLflow has heard of it."""
        file = self.folder / RUN_ID
        return file.read_text().strip() if file.exists() else ""

    def put(self, call: dict[str, Any]) -> None:
        """Adds a call to those that wait. A full disk loses it, with a warning: no reason to stop training."""
        try:
            with self.writing:
                append_text(self.spool, json.dumps(call) + "\n")
        except OSError as error:
            log.warning("%s: cannot be written (%s); some values are not tracked", self.spool, error.strerror)

    def waiting(self) -> list[dict[str, Any]]:
        """Calls not taken yet, oldest first."""
        with self.writing:
            text = self.spool.read_text(encoding="utf-8") if self.spool.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def send(self, now: bool = False) -> bool:
        """Sends what waits; not during the pause after a failure, unless `now`. True: nothing waits any more."""
        with self.sending:
            if not now and time.monotonic() < self.next_try:
                return False
            calls = self.waiting()
            if not calls:
                return True
            done = self._send(calls)
            try:
                self._drop(done)
            except OSError as full:  # what was sent is then sent once more
                done.trouble = done.trouble or f"{self.spool} cannot be written ({full.strerror})"
            self._tell(done)
            return not done.trouble

    def is_running(self) -> bool:
        """Whether MLflow takes the run for running. True also where it does not answer and no end is waiting."""
        if any(call["call"] == "end" for call in self.waiting()[-1:]):
            return False
        try:
            self.client = self.client or make_client(self.uri)
            return self.client.get_run(self.run_id).info.status == "RUNNING"
        except Exception as error:  # whatever a store, a proxy or a network can raise
            return http_status(error) not in REFUSED

    def _mend(self) -> None:
        """Puts lines aside that a kill or a crash of the machine cut short, or the next call would be glued to one."""
        if not self.spool.exists():
            return
        text = self.spool.read_text(encoding="utf-8", errors="replace")
        lines = text.splitlines()
        calls = [line for line in lines if is_valid_call(line)]
        if len(calls) < len(lines):
            aside = self.folder / "unreadable.jsonl"
            append_text(aside, "".join(f"{line}\n" for line in lines if not is_valid_call(line)))
            log.warning("%s: %d damaged lines, now in %s, are not sent", self.spool, len(lines) - len(calls), aside)
        if (mended := "".join(f"{line}\n" for line in calls)) != text:
            write_text(self.spool, mended)

    def _send(self, calls: list[dict[str, Any]]) -> Delivery:
        done = Delivery()
        try:
            self.client = self.client or make_client(self.uri)
            for group in group_calls(calls):
                if trouble := self._offer(group):
                    done.trouble = done.trouble or trouble
                    done.kept += group
                done.tried += len(group)
        except UserError:
            raise
        except Exception as error:  # whatever a store, a proxy or a network can raise: training goes on
            done.trouble = f"MLflow at {self.uri} does not answer ({one_line(error)[:300]})"
        return done

    def _offer(self, group: list[dict[str, Any]]) -> str:
        """Delivers a group. Returns why an artifact is not stored where MLflow answers all else; else empty."""
        assert self.client
        try:
            self._deliver(group)
        except Exception as error:  # files are kept elsewhere than scores, by code that may not be installed here
            if group[0]["call"] != "artifact":
                raise
            self.client.get_run(self.run_id)
            return f"MLflow at {self.uri} cannot store {group[0]['path']} ({one_line(error)[:300]})"
        return ""

    def _deliver(self, group: list[dict[str, Any]]) -> None:
        assert self.client
        try:
            send_group(self.client, self.folder, self.run_id, group)
        except Exception as error:
            if http_status(error) not in REFUSED:
                raise
            if len(group) > 1:  # one bad name must not take the others with it
                for call in group:
                    self._deliver([call])
                return
            log.warning("MLflow refused %s of %s: %s", group[0]["call"], self.folder, one_line(error))
            with (self.folder / "refused.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(call) + "\n" for call in group)

    def _drop(self, done: Delivery) -> None:
        with self.writing:
            rest = self.spool.read_text(encoding="utf-8").splitlines(keepends=True)[done.tried :]
            rest = [json.dumps(call) + "\n" for call in done.kept] + rest
            if not rest:
                self.spool.unlink()
            elif done.sent:
                write_text(self.spool, "".join(rest))

    def _tell(self, done: Delivery) -> None:
        if not done.trouble:
            if self.pause:
                log.warning("MLflow at %s is back: %d missed calls were sent", self.uri, done.sent)
            self.pause = 0.0
            return
        if not self.pause:
            log.warning("%s: the run goes on, what is not sent waits in %s", done.trouble, self.spool)
        self.pause = min(LONGEST_PAUSE, max(5.0, self.pause * 2))
        self.next_try = time.monotonic() + self.pause


def append_text(file: Path, text: str) -> None:
    """Adds UTF-8 text to a file, all of it or, where the disk takes no more, nothing.

    Raises:
        OSError: it could not be added.
    """
    before = file.stat().st_size if file.exists() else 0
    try:
        with file.open("a", encoding="utf-8") as end:
            end.write(text)
    except OSError:
        if file.exists() and file.stat().st_size > before:
            os.truncate(file, before)
        raise


def is_valid_call(line: str) -> bool:
    """Whether a line of the spool can be read."""
    try:
        call = json.loads(line)
    except ValueError:
        return False
    return isinstance(call, dict) and "call" in call


def http_status(error: Exception) -> int:
    """The HTTP status of MLflow's answer; 0: it gave none."""
    ask = getattr(error, "get_http_status_code", None)
    return int(ask()) if ask else int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def group_calls(calls: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Consecutive calls that one request can carry."""
    for kind, same in groupby(calls, key=lambda call: call["call"]):
        group: list[dict[str, Any]] = []
        size = 0
        for call in same:
            count = len(call["metrics"]) if kind == "metrics" else 1000
            if group and size + count > 1000:
                yield group
                group, size = [], 0
            group.append(call)
            size += count
        yield group


def send_group(client: "MlflowClient", folder: Path, run_id: str, group: list[dict[str, Any]]) -> None:
    """Makes one request of a group of calls of the same kind."""
    from mlflow.entities import Metric, Param, RunTag

    call = group[0]
    match call["call"]:
        case "begin":
            begin_run(client, folder, run_id, call)
        case "metrics":
            metrics = [Metric(k, v, c["time"], c["step"]) for c in group for k, v in c["metrics"].items()]
            client.log_batch(run_id, metrics=metrics)
        case "params":
            known = client.get_run(run_id).data.params  # MLflow refuses all of them where one has changed
            client.log_batch(run_id, params=[Param(k, v) for k, v in call["params"].items() if k not in known])
        case "tags":
            client.log_batch(run_id, tags=[RunTag(k, v) for k, v in call["tags"].items()])
        case "artifact":
            upload_artifact(client, folder, run_id, call)
        case "end":
            client.set_terminated(run_id, call["status"], call["time"])


def begin_run(client: "MlflowClient", folder: Path, run_id: str, call: dict[str, Any]) -> None:
    """Takes the run up again in MLflow, or makes it where MLflow does not know it, and keeps its id in the folder."""
    from mlflow.exceptions import MlflowException

    if run_id:
        try:
            client.update_run(run_id, status="RUNNING")
            return
        except MlflowException as error:
            if http_status(error) != 404:
                raise
    experiment = experiment_id(client, call["experiment"])
    run = client.create_run(experiment, start_time=call["time"], tags=call["tags"], run_name=call["name"])
    write_text(folder / RUN_ID, run.info.run_id + "\n")


def experiment_id(client: "MlflowClient", name: str) -> str:
    """The experiment's id; it is made if need be, whichever process comes first."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found:
        return found.experiment_id
    file = database_file(client.tracking_uri)
    # beside the database: MLflow's default is ./mlruns of whatever folder is current
    place = (file.parent / "mlartifacts").as_uri() if file else None
    try:
        return client.create_experiment(name, artifact_location=place)
    except MlflowException:
        if found := client.get_experiment_by_name(name):  # another process was first
            return found.experiment_id
        raise


def upload_artifact(client: "MlflowClient", folder: Path, run_id: str, call: dict[str, Any]) -> None:
    """Sends a file or a folder, named relative to the run's folder."""
    path = folder / call["path"]
    if path.is_dir():
        client.log_artifacts(run_id, str(path), call["to"] or path.name)
    elif path.exists():
        client.log_artifact(run_id, str(path), call["to"] or None)
    else:
        log.warning("%s is gone and was not sent to MLflow", path)
