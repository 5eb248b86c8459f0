"""Connections to MLflow: addresses, and a database that two processes make at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from src.tracking.mlflow_client import tracking_uri
from tests.tracking.test_mlflow_tracker import ROOT


def test_address_of_a_database_holds_in_any_folder(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri() == f"sqlite:///{elsewhere}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///a/b.db")
    assert tracking_uri() == f"sqlite:///{elsewhere}/a/b.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://host/mlflow")
    assert tracking_uri() == "https://host/mlflow"


def test_two_processes_make_one_database(elsewhere: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import mlflow;"
        "from src.tracking.mlflow_client import make_client, tracking_uri;"
        "from src.tracking.mlflow_sync import experiment_id;"
        "print('ready', flush=True); sys.stdin.readline();"
        "print(experiment_id(make_client(tracking_uri()), 'tests'))"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen([sys.executable, "-c", code, str(ROOT)], **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.communicate(timeout=500) for worker in workers] == [("1\n", "")] * 2


def test_mlflow_is_imported_by_the_first_client_only() -> None:
    """Commands that are given a model folder start without it."""
    code = "import sys; from src.tracking.run_registry import find_model; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
