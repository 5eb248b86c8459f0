"""Ends runs whose process is gone, and sends what a run could not send."""

import platform
import time
from pathlib import Path

from src.common.errors import UserError
from src.tracking.mlflow_client import tracking_uri
from src.tracking.mlflow_sync import RUN_ID, Outbox, Status
from src.tracking.run_lock import hold_run, is_run_held
from src.tracking.run_registry import list_runs


def send_missed(run_folder: Path, uri: str = "") -> bool:
    """Sends the calls that a run could not send. True: none waits any more.

    Raises:
        UserError: a process works on the run, and sends by itself.
    """
    with hold_run(run_folder):
        return Outbox(run_folder, uri or tracking_uri()).send(now=True)


def end_abandoned(run_folder: Path, status: Status, uri: str = "", tags: dict[str, str] | None = None) -> bool:
    """Ends a run whose process is gone without having ended it. False: the process lives, or the run has ended.

    Args:
        run_folder: the run's.
        status: MLflow's.
        uri: MLflow's address; empty: `tracking_uri()`.
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
        if outbox.is_end_waiting():  # written, but the process was killed before it was sent
            return outbox.send(now=True)
        if not outbox.is_running():
            return False
        if tags:
            outbox.log.append({"call": "tags", "tags": tags})
        outbox.put_end(status)
        return outbox.send(now=True)


def end_when_gone(run_folder: Path, status: Status, seconds: float = 10.0, tags: dict[str, str] | None = None) -> bool:
    """As end_abandoned, but waits up to `seconds` for a process that is about to go."""
    last = time.monotonic() + seconds
    while not end_abandoned(run_folder, status, tags=tags):
        if time.monotonic() > last or not is_run_held(run_folder):
            return False
        time.sleep(0.2)
    return True


def end_all_abandoned(uri: str = "") -> int:
    """Ends, as KILLED, every run of this machine that is RUNNING in MLflow but has no process. Returns how many."""
    runs = [run for run in list_runs(status="RUNNING", uri=uri) if run.tags.get("host") == platform.node()]
    return sum(end_abandoned(run.folder, "KILLED", uri) for run in runs if run.folder and run.folder.is_dir())
