"""The lock of a run's folder: one process works on a run.

Held by tests/tracking/test_run_folder.py and tests/tracking/test_abandoned_runs.py.
"""

import fcntl
import logging
import time
from pathlib import Path
from typing import TextIO

from src.common.errors import UserError

LOCK = ".tracking.lock"  # in a run's folder
log = logging.getLogger(__name__)


def hold_run(run_folder: Path) -> TextIO:
    """An open file whose lock says that this process works on the run; its closing or the process's end frees the run.

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


def is_run_held(run_folder: Path) -> bool:
    """Whether another process works on a run."""
    try:
        hold_run(run_folder).close()
    except UserError:
        return True
    return False


def wait_until_free(run_folder: Path) -> None:
    """Waits as long as another process works on a run."""
    while run_folder.is_dir() and is_run_held(run_folder):
        time.sleep(0.2)
