"""Files are written whole or not at all. A full disk: test_errors; a kill: tests/tracking/test_run_folder."""

import hashlib
import os
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.common.files import atomic_write, check_output_file, remove_partial_files, sha256, stat_file, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(TypeError), atomic_write(path) as part:
        part.write_bytes("half")  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_partial_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".last.ckpt.ab12cd_9.ckpt").write_text("half")
    (tmp_path / ".hidden").write_text("a user's")
    remove_partial_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]


def test_only_a_regular_file_has_a_status(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        stat_file(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        stat_file(tmp_path / "a\0b")
    write_text(tmp_path / "a", "text")
    assert stat_file(tmp_path / "a").st_size == 4


def test_an_output_path_is_checked_before_the_work(tmp_path: Path) -> None:
    check_output_file(tmp_path / "new" / "x.csv")
    assert (tmp_path / "new").is_dir()
    with pytest.raises(UserError, match="is a folder; name a file in it"):
        check_output_file(tmp_path)
    write_text(tmp_path / "file", "")
    with pytest.raises(UserError, match="cannot be made"):
        check_output_file(tmp_path / "file" / "x.csv")


def test_sha256_is_hashlibs(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "text")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"text").hexdigest()
