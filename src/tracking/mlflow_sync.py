"""Sends a run's log to MLflow, in order; a server that goes away stops no training.

After a kill between a delivery and the note of it, calls may be sent twice, never lost. A file that cannot be stored
lets the calls behind it pass. Held by tests/tracking/test_mlflow_tracker.py.
"""

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from src.common.errors import UserError, one_line
from src.common.files import write_text
from src.tracking.mlflow_client import (
    REFUSED,
    database_file,
    http_status,
    import_mlflow,
    make_client,
    make_writing_client,
)
from src.tracking.run_log import Call, RunLog

if TYPE_CHECKING:
    from mlflow import MlflowClient

Status = Literal["FINISHED", "FAILED", "KILLED"]
RUN_ID = "run_id.txt"  # in a run's folder
LONGEST_PAUSE = 300.0  # seconds
BATCH = 1000  # metrics in one request, MLflow's limit
log = logging.getLogger(__name__)


@dataclass
class Delivery:
    """The outcome of a delivery.

    Attributes:
        tried: number of calls offered to MLflow, from the oldest on.
        postponed: those of them that it could not take yet.
        trouble: why not all were taken; empty: all were.
    """

    tried: int = 0
    postponed: list[Call] = field(default_factory=list)
    trouble: str = ""


def read_run_id(folder: Path) -> str:
    """MLflow's id of the run whose folder this is; empty before MLflow knows the run."""
    file = folder / RUN_ID
    return file.read_text().strip() if file.is_file() else ""


class Outbox:
    """Sends the calls of one run; the process holds the run.

    Args:
        folder: the run's folder.
        uri: of the MLflow server or database.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self.log = RunLog(folder)
        self.client: MlflowClient | None = None
        self.pause, self.next_try = 0.0, 0.0
        self.sending = threading.Lock()

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; empty before MLflow knows the run."""
        return read_run_id(self.folder)

    def put_end(self, status: Status) -> None:
        """Adds the call that ends the run."""
        self.log.append({"call": "end", "status": status, "time": now_in_milliseconds()})

    def waiting(self) -> list[Call]:
        """Calls that MLflow has not taken, oldest first."""
        return [call for call, _ in self.log.waiting()]

    def send(self, now: bool = False) -> bool:
        """Sends the waiting calls; not during the pause after a failure, unless `now`. True: no call waits any more."""
        with self.sending:
            if not now and time.monotonic() < self.next_try:
                return False
            waiting = self.log.waiting()
            if not waiting:
                return True
            delivery = self._send([call for call, _ in waiting])
            position = waiting[delivery.tried - 1][1] if delivery.tried else self.log.position
            try:
                self.log.advance(position, delivery.postponed + self.log.postponed[delivery.tried :])
            except OSError as error:
                trouble = f"{self.log.cursor} cannot be written ({error.strerror})"
                delivery.trouble = delivery.trouble or trouble
            self._report(delivery)
            return not delivery.trouble

    def is_end_waiting(self) -> bool:
        """Whether the run has ended, and MLflow does not know it yet."""
        return any(call["call"] == "end" for call in self.waiting()[-1:])

    def is_running(self) -> bool:
        """Whether the run's status in MLflow is RUNNING. True also where MLflow does not answer."""
        try:
            self.client = self.client or make_client(self.uri)
            return self.client.get_run(self.run_id).info.status == "RUNNING"
        except Exception as error:  # whatever a store, a proxy or a network can raise
            return http_status(error) not in REFUSED

    def _send(self, calls: list[Call]) -> Delivery:
        delivery = Delivery()
        try:
            self.client = self.client or make_writing_client(self.uri)
            for group in group_calls(calls):
                if trouble := self._send_group(self.client, group):
                    delivery.trouble = delivery.trouble or trouble
                    delivery.postponed += group
                delivery.tried += len(group)
        except UserError:
            raise
        except Exception as error:  # whatever a store, a proxy or a network can raise: training goes on
            delivery.trouble = f"MLflow at {self.uri} does not answer ({one_line(error)[:300]})"
        return delivery

    def _send_group(self, client: "MlflowClient", group: list[Call]) -> str:
        """Sends a group. Returns why an artifact is not stored where MLflow takes all else; else empty."""
        try:
            self._send_or_refuse(client, group)
        except Exception as error:  # artifacts have a store of their own, whose code may not be installed here
            if group[0]["call"] != "artifact":
                raise
            client.get_run(self.run_id)
            return f"MLflow at {self.uri} cannot store {group[0]['path']} ({one_line(error)[:300]})"
        return ""

    def _send_or_refuse(self, client: "MlflowClient", group: list[Call]) -> None:
        """Sends a group; calls that MLflow refuses go to refused.jsonl."""
        try:
            request_group(client, self.folder, self.run_id, group)
        except Exception as error:
            if http_status(error) not in REFUSED:
                raise
            if len(group) > 1:  # one bad name must not take the others with it
                for call in group:
                    self._send_or_refuse(client, [call])
                return
            log.warning("MLflow refused %s of %s: %s", group[0]["call"], self.folder, one_line(error))
            with (self.folder / "refused.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(group[0]) + "\n")

    def _report(self, delivery: Delivery) -> None:
        """Warns at the begin and at the end of an outage, and sets the pause before the next try."""
        if not delivery.trouble:
            if self.pause:
                log.warning("MLflow at %s is back: %d missed calls were sent", self.uri, delivery.tried)
            self.pause = 0.0
            return
        if not self.pause:
            log.warning("%s: the run goes on, what is not sent waits in %s", delivery.trouble, self.log.file)
        self.pause = min(LONGEST_PAUSE, max(5.0, self.pause * 2))
        self.next_try = time.monotonic() + self.pause


def now_in_milliseconds() -> int:
    """Milliseconds since 1970, MLflow's time."""
    return int(time.time() * 1000)


def group_calls(calls: list[Call]) -> Iterator[list[Call]]:
    """Consecutive calls that one request can carry."""
    for kind, calls_of_kind in groupby(calls, key=lambda call: call["call"]):
        group: list[Call] = []
        size = 0
        for call in calls_of_kind:
            count = len(call["metrics"]) if kind == "metrics" else BATCH
            if group and size + count > BATCH:
                yield group
                group, size = [], 0
            group.append(call)
            size += count
        yield group


def request_group(client: "MlflowClient", folder: Path, run_id: str, group: list[Call]) -> None:
    """Makes one request of a group of calls of the same kind."""
    entities = import_mlflow().entities
    call = group[0]
    match call["call"]:
        case "begin":
            begin_run(client, folder, run_id, call)
        case "metrics":
            metrics = [entities.Metric(k, v, c["time"], c["step"]) for c in group for k, v in c["metrics"].items()]
            client.log_batch(run_id, metrics=metrics)
        case "params":
            known = client.get_run(run_id).data.params  # MLflow refuses all of them where one has changed
            params = [entities.Param(k, v) for k, v in call["params"].items() if k not in known]
            client.log_batch(run_id, params=params)
        case "tags":
            client.log_batch(run_id, tags=[entities.RunTag(k, v) for k, v in call["tags"].items()])
        case "artifact":
            upload_artifact(client, folder, run_id, call)
        case "end":
            client.set_terminated(run_id, call["status"], call["time"])


def begin_run(client: "MlflowClient", folder: Path, run_id: str, call: Call) -> None:
    """Reopens the run in MLflow, or makes it where MLflow does not know it, and writes its id to the folder."""
    if run_id:
        try:
            client.update_run(run_id, status="RUNNING")
            return
        except import_mlflow().exceptions.MlflowException as error:
            if http_status(error) != 404:
                raise
    experiment = experiment_id(client, call["experiment"])
    run = client.create_run(experiment, start_time=call["time"], tags=call["tags"], run_name=call["name"])
    write_text(folder / RUN_ID, run.info.run_id + "\n")


def experiment_id(client: "MlflowClient", name: str) -> str:
    """The id of an experiment; the first process that needs it makes it."""
    experiment = client.get_experiment_by_name(name)
    if experiment and experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    if experiment:
        return experiment.experiment_id
    file = database_file(client.tracking_uri)
    # beside the database: MLflow's default is ./mlruns of whatever folder is current
    place = (file.parent / "mlartifacts").as_uri() if file else None
    try:
        return client.create_experiment(name, artifact_location=place)
    except import_mlflow().exceptions.MlflowException:
        if experiment := client.get_experiment_by_name(name):  # another process was first
            return experiment.experiment_id
        raise


def upload_artifact(client: "MlflowClient", folder: Path, run_id: str, call: Call) -> None:
    """Sends a file or a folder, whose path is relative to the run's folder."""
    path = folder / call["path"]
    if path.is_dir():
        client.log_artifacts(run_id, str(path), call["to"] or path.name)
    elif path.exists():
        client.log_artifact(run_id, str(path), call["to"] or None)
    else:
        log.warning("%s is gone and was not sent to MLflow", path)
