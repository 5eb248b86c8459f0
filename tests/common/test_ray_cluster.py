"""A worker's environment. Sessions of Ray are held by tests/training/test_distributed.py and tests/tuning."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.common.ray_cluster import enter_working_folder, worker_variables


def test_a_worker_has_the_code_and_the_settings_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/plugins")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("A_SECRET", "x")
    variables = worker_variables("http://server:5000")
    assert variables["MLFLOW_TRACKING_URI"] == "http://server:5000"
    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables["PYTHONPATH"].split(os.pathsep)[1:] == ["/plugins"]
    assert "A_SECRET" not in variables
    env = {**variables, "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", "import src.common.errors"], cwd=tmp_path, env=env, check=True)


def test_a_worker_enters_the_folder_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    enter_working_folder(str(tmp_path))
    assert Path.cwd() == tmp_path
    with pytest.raises(UserError, match=r"/absent: is not on the machine .*; share the folder among all machines"):
        enter_working_folder(str(tmp_path / "absent"))
