"""The lock of a run's folder: one process works on a run.

Held by tests/tracking/test_run_folder.py and tests/tracking/test_abandoned_runs.py.
"""

import fcntl
import time
from pathlib import Path
from typing import TextIO

from src.common.errors import UserError
from src.common.file_locks import take_lock

LOCK = ".tracking.lock"  # in a run's folder


def hold_run(run_folder: Path) -> TextIO:
    """An open file whose lock says that this process works on the run; its closing or the process's end frees the run.

    Raises:
        UserError: another process holds it, or the folder is another user's to write.
    """
    try:
        file = (run_folder / LOCK).open("a")
    except PermissionError as error:
        raise UserError(f"{run_folder}: you may not write this run; ask its owner, or choose another name") from error
    # Not flock, whose lock loader processes that were left behind would keep.
    if not take_lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB, posix=True):
        file.close()
        raise UserError(f"{run_folder}: another process works on this run; wait for it or end it")
    return file


def is_run_held(run_folder: Path) -> bool:
    """Whether another process works on a run, or it is another user's."""
    try:
        hold_run(run_folder).close()
    except UserError:
        return True
    return False


def wait_until_free(run_folder: Path) -> None:
    """Waits as long as another process works on a run."""
    while run_folder.is_dir() and is_run_held(run_folder):
        time.sleep(0.2)
