"""Atomic writes, checks and hashes of files."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.common.errors import UserError, name_path_in_errors

PARTIAL_NAME = re.compile(r"\..+(\.[^.]+)\.[a-z0-9_]{8}\1")  # names of atomic_write


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; moves it onto `path` after the block, or removes it after an error.

    The file has the permissions of any new file there: those of the umask, or of the folder's default ACL.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    part.touch(exist_ok=False)
    mode = stat.S_IMODE(part.stat().st_mode)
    try:
        with name_path_in_errors(path):
            yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        if stat.S_IMODE(part.stat().st_mode) != mode:  # some libraries put a private file in its place
            part.chmod(mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, for the block to fill and move there; removes it if it is still there.

    It has the permissions of any new folder there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def remove_partial_files(folder: Path) -> None:
    """Removes temporary files that killed processes left in a folder. No process may write there meanwhile."""
    for path in folder.glob(".*"):
        if PARTIAL_NAME.fullmatch(path.name):
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text as atomic_write does."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def stat_file(path: Path) -> os.stat_result:
    """The size, times and mode of a regular file.

    Raises:
        OSError: it is missing, or not a regular file: reading a pipe may wait for ever.
    """
    try:
        status = path.stat()
    except ValueError as error:  # a zero byte, which no file name holds
        raise FileNotFoundError(errno.ENOENT, str(error), str(path)) from error
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return status


def check_readable(path: Path) -> None:
    """Raises UserError where a file cannot be opened; a file that one may not read is not called damaged."""
    try:
        path.open("rb").close()
    except OSError as error:
        denied = isinstance(error, PermissionError)
        remedy = "ask its owner for permission to read it (chmod)" if denied else "check the path"
        raise UserError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error


def check_output_file(path: Path, remedy: str = "choose another place") -> None:
    """Makes the folder of a file before the work whose result it will hold.

    Raises:
        UserError: no file can be written to `path`.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it")
    check_output_parent(path, remedy)


def check_output_parent(path: Path, remedy: str = "choose another place") -> None:
    """Makes the parent folder of a file or folder. Raises UserError where nothing can be written in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made ({error.strerror}); {remedy}") from error
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); {remedy}") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
