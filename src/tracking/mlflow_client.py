"""Connections to MLflow: where it is, a client for it, and the errors of its servers, databases and networks.

MLflow takes seconds to import, so only the first client imports it. Held by tests/tracking/test_mlflow_tracker.py and
tests/tracking/test_run_registry.py.
"""

import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from src.common.errors import UserError, one_line
from src.common.file_locks import file_lock
from src.common.sqlite import SQLITE, check_database_writable, make_database_file, sqlite_address

if TYPE_CHECKING:
    from mlflow import MlflowClient

REFUSED = (400, 404, 409, 413, 422)  # HTTP states of a call that is itself at fault: to send it again is no use
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def import_mlflow() -> ModuleType:
    """The package mlflow; the user's environment overrides our short waits, no telemetry and few messages."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    import mlflow

    return mlflow


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database mlflow.db in the current folder, as an address that holds in workers.

    It is passed to workers, which enter the current folder, as MLFLOW_TRACKING_URI.

    Raises:
        UserError: no address can name the database.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    return uri if "?" in uri or not (file := database_file(uri)) else sqlite_address(file)


def database_file(uri: str) -> Path | None:
    """The file of a SQLite address, None for any other."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]).resolve() if uri.startswith(SQLITE) else None


def make_client(uri: str) -> "MlflowClient":
    """A client for an MLflow server or database; the tables of a new database are made by one process at a time.

    Raises:
        UserError: MLflow knows no such kind of address.
    """
    mlflow = import_mlflow()
    try:
        with database_lock(database_file(uri)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Alembic's, on MLflow's own tables
            return mlflow.MlflowClient(uri)
    except mlflow.exceptions.MlflowException as error:
        if http_status(error) not in REFUSED:  # the address is right, its database is in trouble
            raise
        raise UserError(f"MLFLOW_TRACKING_URI {uri}: {one_line(error)[:200]}") from error


def make_writing_client(uri: str) -> "MlflowClient":
    """As make_client.

    Raises:
        PermissionError: the database is not this user's to write.
    """
    if file := database_file(uri):
        check_database_writable(file)
    return make_client(uri)


@contextmanager
def database_lock(file: Path | None) -> Iterator[None]:
    """Keeps other processes out while a new database is made: two makers at once fail."""
    if file is None:
        yield
        return
    if is_new := not (file.exists() and file.stat().st_size):
        make_database_file(file)
    with file_lock(file.with_name(file.name + ".lock"), shared=not is_new):
        yield


def database_names(uri: str) -> set[str] | None:
    """Names and ids of all runs and names of all registered models; None where only MLflow itself knows them."""
    file = database_file(uri)
    if file is None:
        return None
    if not file.exists():
        return set()
    query = "SELECT name FROM runs UNION SELECT run_uuid FROM runs UNION SELECT name FROM registered_models"
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            return {name for (name,) in connection.execute(query) if name}
    except sqlite3.Error:
        return None


def open_client(uri: str = "") -> "MlflowClient":
    """A client for reading; a database must exist.

    Raises:
        UserError: no database, or no response.
    """
    uri = uri or tracking_uri()
    file = database_file(uri)
    if file and not file.exists():
        raise UserError(f"{file}: no runs yet; train one, or set MLFLOW_TRACKING_URI to where they are kept")
    return connect_client(uri)


def connect_client(uri: str) -> "MlflowClient":
    """A client whose server or database responds; a new database is made.

    Raises:
        UserError: no response.
    """
    try:
        client = make_client(uri)
        client.search_experiments(max_results=1)
    except UserError:
        raise
    except Exception as error:  # each kind of store, driver and network raises its own
        raise UserError(f"MLflow at {uri} does not answer: {one_line(error)[:200]}") from error
    return client


def http_status(error: Exception) -> int:
    """The HTTP status of an error of MLflow's; 0: it has none."""
    get_code = getattr(error, "get_http_status_code", None)
    return int(get_code()) if get_code else int(getattr(getattr(error, "response", None), "status_code", 0) or 0)
