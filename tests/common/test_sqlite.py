"""Addresses of databases, and who may write them."""

import os
import stat
from pathlib import Path

import pytest
import sqlalchemy

from src.common.errors import UserError
from src.common.sqlite import check_database_writable, make_database_file, sqlite_address


@pytest.mark.parametrize("name", ["a?b=c d#e%20é{x}", "plain"])
def test_an_address_leads_to_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with sqlalchemy.create_engine(sqlite_address(Path("x.db"))).connect() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE t (x)"))
    assert [*tmp_path.rglob("*.db")] == [tmp_path / name / "x.db"]


def test_a_folder_that_no_address_can_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"why\?/x.db: no database .* with . in its name; rename the folder"):
        sqlite_address(tmp_path / "why?" / "x.db")


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_a_new_database_and_its_journal_have_the_mode_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    file = tmp_path / "x.db"
    before = os.umask(umask)
    try:
        make_database_file(file)
        engine = sqlalchemy.create_engine(sqlite_address(file))
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("PRAGMA journal_mode = WAL"))
            connection.execute(sqlalchemy.text("CREATE TABLE t (x)"))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["x.db", "x.db-wal", "x.db-shm"], mode)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_database_of_another_user_is_refused_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    make_database_file(file)
    check_database_writable(file)
    file.chmod(0o444)
    with pytest.raises(PermissionError, match=f"you may not write {file}; ask its owner for: chmod g.w {file}"):
        check_database_writable(file)
