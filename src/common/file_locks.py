"""Locks of files against other processes. Where a file system refuses locks, a warning says so and the work goes on."""

import fcntl
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TextIO

log = logging.getLogger(__name__)


def take_lock(file: TextIO, operation: int, posix: bool = False) -> bool:
    """Takes the lock of an open file. False: another process holds it, and `operation` says not to wait.

    Args:
        file: whose closing frees the lock.
        operation: LOCK_EX or LOCK_SH, with LOCK_NB not to wait.
        posix: a lock by fcntl.lockf, which child processes do not share, instead of fcntl.flock.
    """
    try:
        (fcntl.lockf if posix else fcntl.flock)(file, operation)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:  # a network disk without locks
        warn_without_lock(file.name, error.strerror)
    return True


@cache
def warn_without_lock(path: str, reason: str) -> None:
    """Warns that a file cannot be locked, once a file."""
    log.warning("%s: cannot be locked (%s); let no second process work there at the same time", path, reason)


@contextmanager
def file_lock(path: Path, shared: bool = False, notice: str = "") -> Iterator[None]:
    """Waits for a file's lock and holds it against other processes; `shared`: against exclusive holders only.

    Args:
        path: of the lock file, which is made.
        shared: for a reader; it goes without a lock where it may not make the file.
        notice: for stderr, where another process holds the lock.
    """
    try:
        file = open_lock_file(path)
    except OSError:
        if not shared:
            raise
        yield
        return
    with file:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        if not take_lock(file, kind | fcntl.LOCK_NB):
            if notice:
                print(notice, file=sys.stderr, flush=True)
            take_lock(file, kind)
        yield


def open_lock_file(path: Path) -> TextIO:
    """A lock file, made if need be; to read where it is another user's, which is enough for fcntl.flock."""
    try:
        return path.open("a")
    except OSError:
        if not path.is_file():
            raise
        return path.open()
