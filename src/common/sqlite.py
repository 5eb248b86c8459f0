"""SQLite databases: their addresses, and files that the group may write where the umask lets it."""

import os
from pathlib import Path

from src.common.errors import UserError

SQLITE = "sqlite:///"
RESERVED = {"?", "%"}  # they end the path, and begin an encoded character; MLflow makes folders of encoded names


def sqlite_address(file: Path) -> str:
    """SQLAlchemy's address of a database file: absolute, so that it holds in any folder.

    It is relative to the current folder where the absolute path has a sign that addresses have another use for.

    Raises:
        UserError: the relative path has such a sign, too.
    """
    path = str(file.resolve())
    if RESERVED & set(path):
        path = os.path.relpath(path)
    if signs := RESERVED & set(path):
        raise UserError(f"{file}: no database can lie in a folder with {signs.pop()} in its name; rename the folder")
    return SQLITE + path


def make_database_file(file: Path) -> None:
    """Makes an empty database with the mode that the umask allows: SQLite's own files are never the group's to write.

    Files that SQLite puts beside a database have the database's mode.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def check_database_writable(file: Path) -> None:
    """Raises PermissionError, with the remedy, where this user may not write a database or its folder."""
    for path in (file, file.parent):
        if path.exists() and not os.access(path, os.W_OK):
            remedy = f"ask its owner for: chmod g+w {path}; or set MLFLOW_TRACKING_URI to a database of yours"
            raise PermissionError(f"you may not write {path}; {remedy}")
