"""Errors that a person can cause and mend: one line, the remedy in it, exit code 2."""

import errno
import os
import select
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# What a place answers that is full, and one where nothing can be written.
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PATH_PROBLEMS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY}
PATH_PROBLEMS |= {errno.EBUSY, errno.EXDEV, errno.ENAMETOOLONG, errno.ELOOP}


EXIT_FALLBACKS = 3  # exit code: done, but some rows hold the training mean and the commonest comment


class UserError(Exception):
    """Bad input. The message is one line: it names the file, row or key, and says what to do."""


def one_line(message: object) -> str:
    """A message with its line breaks and runs of spaces folded."""
    return " ".join(str(message).split())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine's or the GPU's memory ran out; torch's CPU allocator says so only in its message."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def run_command(command: Callable[[], int | None]) -> None:
    """Runs a command's main function and ends the process with its exit code.

    0: done; 1: a check found problems; 2: bad input, one line on stderr; 3: done, but some rows needed a fallback;
    130: interrupted from the keyboard; 141: what read the output, such as head, has ended.
    """
    try:
        code = command() or 0
        sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from what it has kept, or starts anew", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        if not is_stdout_closed():
            raise
        sys.exit(141)
    except OSError as error:
        if not (message := describe_path_error(error)):
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def describe_path_error(error: OSError) -> str:
    """The problem of an output path and its remedy, on one line; empty for any other error."""
    name = error.filename2 or error.filename
    if error.errno in DISK_FULL:
        return f"{name or 'disk'}: {error.strerror}; make room, or choose another place"
    if name and (
        error.errno in PATH_PROBLEMS or (error.errno == errno.ENOENT and not is_writable(Path(str(name)).parent))
    ):
        return f"{name}: {error.strerror}; choose another place"
    return ""


def is_writable(folder: Path) -> bool:
    """Whether a folder takes new files. /proc does not, and answers as if the folder did not exist."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return not folder.is_dir()


@contextmanager
def name_path_in_errors(path: Path) -> Iterator[None]:
    """Gives an OSError of the block, such as that of a full disk, the path where it has none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def is_stdout_closed() -> bool:
    """Whether nobody reads standard output any more; what is left to be said is then dropped."""
    look = select.poll()
    look.register(sys.stdout.fileno(), 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in look.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
    return gone
