"""Ray on this machine or on the cluster that RAY_ADDRESS names; trials, training workers and predictions run on it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from src.common.errors import UserError, one_line

IDLE_CPUS = 0.001  # CPUs of a process that only waits for others; Ray requires more than 0
LONGEST_SOCKET_PATH = 107  # bytes, the system's limit
SOCKET_NAME = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.10"  # as Ray makes it, the longest
OBJECT_STORE_BYTES = 256 * 2**20  # Ray's shared memory on this machine; the objects here are small


@contextmanager
def ray_session(tracking_uri: str) -> Iterator[None]:
    """Ray for the block. A session that runs already is used and left running.

    Args:
        tracking_uri: MLflow's address, which workers get as MLFLOW_TRACKING_URI.
    """
    # Ray reads both at its import: no console reporter of its own, and workers stay in the current folder.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    start_ray(tracking_uri)
    try:
        yield
    finally:
        ray.shutdown()


def start_ray(tracking_uri: str) -> None:
    """Starts Ray, or joins the cluster. Starts again, twice at most, where a busy machine exceeds Ray's time limit.

    Raises:
        UserError: it does not start, or the cluster does not answer.
    """
    import ray

    address = os.environ.get("RAY_ADDRESS", "")
    local = {} if address else local_settings()
    env = {"env_vars": worker_variables(tracking_uri)}
    for attempt in (1, 2, 3):
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env=env, **local)
            return
        except Exception as error:  # Ray raises plain exceptions where its processes do not start
            ray.shutdown()
            if address:
                raise UserError(f"RAY_ADDRESS {address}: does not answer ({one_line(error)[:200]})") from error
            if "timed out" not in str(error):
                logs = f"{local['_temp_dir']}/session_latest/logs"
                raise UserError(f"Ray does not start ({one_line(error)[:200]}); its logs: {logs}") from error
            if attempt == 3:
                raise UserError(f"Ray does not start ({one_line(error)[:200]}); is this machine too busy?") from error


def local_settings() -> dict[str, Any]:
    """Settings of Ray on this machine: "local", or it joins any cluster that runs here; raises as session_folder."""
    settings: dict[str, Any] = {"address": "local", "include_dashboard": False, "_temp_dir": str(session_folder())}
    return settings | {"object_store_memory": OBJECT_STORE_BYTES}


def session_folder() -> Path:
    """This user's folder for Ray's sockets and logs, in the first of RAY_TMPDIR, TMPDIR and /tmp that can hold it.

    Raises:
        UserError: their paths are too long for sockets, or they are not this user's to write.
    """
    places = [os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), "/tmp"]
    for folder in [Path(place).absolute() / f"ray-{os.getuid()}" for place in places if place]:
        if len(os.fsencode(folder)) + len(SOCKET_NAME) > LONGEST_SOCKET_PATH:
            continue
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
                return folder
    longest = LONGEST_SOCKET_PATH - len(SOCKET_NAME) - len(f"/ray-{os.getuid()}")
    remedy = f"set TMPDIR to a folder of yours whose path has at most {longest} bytes"
    raise UserError(f"Ray has no place for its sockets, neither in TMPDIR nor in /tmp; {remedy}")


def worker_variables(tracking_uri: str) -> dict[str, str]:
    """Environment variables of a worker on any machine: the code's folder, MLflow's address and settings of Ray."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "MLFLOW_TRACKING_URI": tracking_uri}
    passed = ("RAY_AIR_NEW_OUTPUT", "RAY_CHDIR_TO_TRIAL_DIR", "NO_ALBUMENTATIONS_UPDATE", "OMP_NUM_THREADS")
    return variables | {name: os.environ[name] for name in passed if name in os.environ}


def enter_working_folder(home: str) -> None:
    """Enters the folder in which the command was started, so that relative paths mean the same in a worker.

    Raises:
        UserError: this machine has no such folder.
    """
    try:
        os.chdir(home)
    except OSError as error:
        where = f"{home}: is not on the machine {os.uname().nodename} ({error.strerror})"
        raise UserError(f"{where}; share the folder among all machines of the cluster") from error
