"""Atomic writes, checks and hashes of files."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.common.files import (
    atomic_write,
    check_output_file,
    partial_folder,
    remove_partial_files,
    sha256,
    stat_file,
    write_text,
)

ROOT = Path(__file__).parents[2]


def test_a_block_that_ends_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.txt"
    write_text(path, "old")
    with atomic_write(path) as part:
        part.write_text("new")
        assert (path.read_text(), part.parent, part.suffix) == ("old", path.parent, ".txt")
    assert (path.read_text(), path.stat().st_mode & 0o777, list(path.parent.iterdir())) == (
        "new",
        0o666 & ~current_umask(),
        [path],
    )


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_files_and_folders_have_the_permissions_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "a.txt") as part:
            part.unlink()
            os.close(os.open(part, os.O_CREAT, 0o600))  # as safetensors does
        with partial_folder(tmp_path / "folder") as folder:
            folder.rename(tmp_path / "folder")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"a.txt": 0o666 & ~umask, "folder": 0o777 & ~umask}


def test_a_partial_folder_that_was_not_moved_is_removed(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), partial_folder(tmp_path / "folder") as folder:
        folder.mkdir()
    assert list(tmp_path.iterdir()) == []


def current_umask() -> int:
    os.umask(before := os.umask(0))
    return before


def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(FileExistsError), atomic_write(path) as part:
        part.mkdir()
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


def test_temporary_files_of_a_killed_process_are_removed_and_no_others(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from src.common.files import atomic_write
with atomic_write(Path("a.txt")) as part:
    part.write_text("half")
    os._exit(9)
"""
    (tmp_path / ".hidden.txt").touch()
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path).returncode == 9
    assert len(list(tmp_path.iterdir())) == 2
    remove_partial_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".hidden.txt"]


def test_text_keeps_its_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "é\r\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\r\n"


def test_only_a_regular_file_has_a_status(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "four")
    os.mkfifo(tmp_path / "pipe")
    assert stat_file(tmp_path / "a.txt").st_size == 4
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="no regular file"):
            stat_file(path)
    with pytest.raises(FileNotFoundError):
        stat_file(Path("a\0b"))


def test_an_output_file_is_checked_before_the_work(tmp_path: Path) -> None:
    check_output_file(tmp_path / "new" / "a.csv")
    assert list((tmp_path / "new").iterdir()) == []
    write_text(tmp_path / "file", "")
    for path, message in {
        tmp_path: f"{tmp_path}: is a folder; name a file in it",
        tmp_path / "file" / "a.csv": f"{tmp_path}/file: cannot be made (File exists); name another",
        Path("/proc/a.csv"): "/proc/a.csv: cannot be written (No such file or directory); name another",
    }.items():
        with pytest.raises(UserError) as error:
            check_output_file(path, "name another")
        assert str(error.value) == message


def test_hash_of_a_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "text")
    assert sha256(tmp_path / "a.txt") == hashlib.sha256(b"text").hexdigest()
