"""Errors of a person's input or machine, and how a command ends: one line with the remedy, and an exit code."""

import errno
import io
import locale
import os
import re
import select
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Error numbers of a full disk, and of a path that cannot be written.
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PATH_PROBLEMS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY}
PATH_PROBLEMS |= {errno.EBUSY, errno.EXDEV, errno.ENAMETOOLONG, errno.ELOOP}
LONGEST = 2000  # letters of a message
EXIT_FALLBACKS = 3  # exit code: done, but some rows hold the training mean and the most frequent comment


class UserError(Exception):
    """Bad input. The message is one line: it names the file, row or key, and the remedy.

    Line breaks and other control characters, as a table's header may hold them, become escapes, and the middle of a
    long message dots.
    """

    def __init__(self, message: str) -> None:
        text = escape_controls(message)
        super().__init__(text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}")


def escape_controls(text: str) -> str:
    """A text with escapes, such as \\n, in the place of line breaks and control characters."""
    return re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda match: repr(match[0])[1:-1], text)


def one_line(message: object) -> str:
    """A message with its line breaks and runs of spaces folded."""
    return " ".join(str(message).split())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine's or the GPU's memory ran out; torch's CPU allocator says so only in its message."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def run_command(command: Callable[[], int | None]) -> None:
    """Runs a command's main function and ends the process with its exit code.

    0: done; 1: a check found problems; 2: bad input, one line on stderr; 3: done, but some rows needed a fallback;
    130: interrupted from the keyboard; 141: the reader of the output, such as `head`, has ended.
    """
    use_utf8()
    try:
        code = command() or 0
        sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from its last saved state, or starts anew", file=sys.stderr)
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


def use_utf8() -> None:
    """UTF-8 for files and their names whatever the terminal; output in the terminal's encoding, else as escapes.

    Child processes do likewise. Where the locale is not UTF-8, Python can only start anew.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    other_locale = sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1"
    encoding = locale.getencoding() if other_locale else ""
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0] or encoding
    os.environ["PYTHONIOENCODING"] = f"{encoding}:backslashreplace"
    if other_locale:
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONUTF8": "1"})


def describe_path_error(error: OSError) -> str:
    """The problem of a path that a command writes to, and the remedy; empty for an error of another kind."""
    name = error.filename2 or error.filename
    if error.errno in DISK_FULL:
        return f"{name or 'disk'}: {error.strerror}; make room, or choose another place"
    if name and (
        error.errno in PATH_PROBLEMS or (error.errno == errno.ENOENT and not is_writable(Path(str(name)).parent))
    ):
        denied = "check its permissions, or " if isinstance(error, PermissionError) else ""
        return f"{name}: {error.strerror}; {denied}choose another place"
    return ""


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or it does not exist; /proc answers as a missing folder does."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return not folder.is_dir()


@contextmanager
def name_path_in_errors(path: Path) -> Iterator[None]:
    """Adds the path to an OSError of the block that names none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def is_stdout_closed() -> bool:
    """Whether the reader of standard output has ended; later output is then dropped."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    closed = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its exit
    return closed
