"""Ray in this process, or the cluster that RAY_ADDRESS names, for trials, workers and predictions.

Held by tests/training/test_distributed.py.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.common.errors import UserError, one_line

IDLE_CPUS = 0.001  # CPUs that a process holds while others work for it; Ray wants some
OBJECT_STORE_BYTES = (
    256 * 2**20
)  # bytes of shared memory that Ray takes on this machine: what it carries for us is small


@contextmanager
def ray_session(tracking_uri: str) -> Iterator[None]:
    """Ray in this process, or on the cluster that RAY_ADDRESS names; left alone where it was started before.

    Args:
        tracking_uri: MLflow's address, which workers get as MLFLOW_TRACKING_URI.
    """
    # Read when ray is imported: no new console reporter, and workers keep the current folder.
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
    """Starts Ray, or joins the cluster; tries up to three times on a machine that is too busy to start it in time.

    Raises:
        UserError: Ray does not start, or the cluster does not answer.
    """
    import ray

    # "local": or it would join whatever cluster someone started on this machine.
    local: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    address = os.environ.get("RAY_ADDRESS", "")
    env = {"env_vars": worker_variables(tracking_uri)}
    for attempts_left in (2, 1, 0):
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env=env, **({} if address else local))
            return
        except Exception as error:  # Ray raises plain ones where its processes do not come up
            ray.shutdown()
            if address:
                raise UserError(f"RAY_ADDRESS {address}: does not answer ({one_line(error)[:200]})") from error
            if not attempts_left or "timed out" not in str(error):
                raise UserError(f"Ray does not start ({one_line(error)[:200]}); is this machine too busy?") from error


def worker_variables(tracking_uri: str) -> dict[str, str]:
    """The environment of a worker on any machine: the path of the code, MLflow's address, settings."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    known = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "MLFLOW_TRACKING_URI": tracking_uri}
    passed_on = ("RAY_AIR_NEW_OUTPUT", "RAY_CHDIR_TO_TRIAL_DIR", "NO_ALBUMENTATIONS_UPDATE", "OMP_NUM_THREADS")
    return known | {name: os.environ[name] for name in passed_on if name in os.environ}


def enter_working_folder(home: str) -> None:
    """Enters the command's current folder in a worker, so that relative paths are the same there.

    Raises:
        UserError: this machine has no such folder.
    """
    try:
        os.chdir(home)
    except OSError as error:
        where = f"{home}: is not on the machine {os.uname().nodename} ({error.strerror})"
        raise UserError(f"{where}; share the folder among all machines of the cluster") from error
