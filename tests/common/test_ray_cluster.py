"""A worker's environment, and the folder of Ray's sockets.

Sessions of Ray are held by tests/training/test_distributed.py and tests/tuning.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.common.ray_cluster import enter_working_folder, session_folder, worker_variables


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


def test_sockets_lie_in_a_short_folder_of_this_user(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, usual = f"ray-{os.getuid()}", Path(f"/tmp/ray-{os.getuid()}")
    short, long = Path(tempfile.mkdtemp(dir="/tmp")), tmp_path_factory.mktemp("x" * 60)
    try:
        for ray, temporary, folder in [
            ("", "", usual),
            ("", str(short), short / name),
            (str(short), "/tmp", short / name),
            (str(long), str(short), short / name),
            ("", str(long), usual),
            ("", "/proc", usual),
        ]:
            monkeypatch.setenv("RAY_TMPDIR", ray)
            monkeypatch.setenv("TMPDIR", temporary)
            assert session_folder() == folder
    finally:
        shutil.rmtree(short)


def test_no_place_for_sockets_names_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/" + "x" * 60)
    monkeypatch.setattr(os, "access", lambda *_: False)  # /tmp/ray-UID is another user's
    with pytest.raises(
        UserError, match="Ray has no place for its sockets, .*; set TMPDIR to a folder of yours"
    ) as told:
        session_folder()
    assert "\n" not in str(told.value)
