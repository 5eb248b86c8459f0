"""What a run ran on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from src.tracking.environment import git_version, gpu_names, gpu_resources, library_versions, tree_memory


def git(*words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *who, *words], capture_output=True, text=True, check=True).stdout.strip()


def test_git_version_knows_commit_and_changes(elsewhere: Path) -> None:
    assert git_version(elsewhere) == ("", False)
    git("init", "-q")
    Path("a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    commit = git("rev-parse", "HEAD")
    Path("b").write_text("1")
    assert git_version(elsewhere) == (commit, False)
    Path("submissions").mkdir()
    Path("submissions/x.csv").write_text("1")
    git("add", "submissions")
    Path("folder").mkdir()
    assert git_version(Path("folder")) == (commit, False)
    Path("a").write_text("2")
    assert git_version(Path("folder")) == (commit, True)


def test_no_git_is_tolerated(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_version(elsewhere) == ("", False)


def test_memory_of_children_counts() -> None:
    before = tree_memory(psutil.Process())
    code = "import sys; ballast = bytearray(b'x' * 100_000_000); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        assert 1e8 < tree_memory(psutil.Process()) - before < 2e8
        child.communicate()


def test_gpus_that_the_process_may_use(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's tool is played by a script: its lines for two devices, of which the second knows no use."""
    tool = elsewhere / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        'case "$*" in *=name*) echo "NVIDIA H200"; exit;; *"-i 1"*) echo "20, [N/A]"; exit;; esac\n'
        'echo "1000, 37"; echo "20, [N/A]"\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(elsewhere), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_names() == ["NVIDIA H200"]
    used = {"system/gpu0_memory_gb": 1.048576, "system/gpu0_percent": 37.0, "system/gpu1_memory_gb": 0.02097152}
    assert gpu_resources() == pytest.approx(used)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_resources() == pytest.approx({"system/gpu0_memory_gb": 0.02097152})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_resources() == {}


def test_versions_and_command() -> None:
    assert library_versions()["numpy"] == np.__version__
    assert library_versions()["python"] == sys.version.split()[0]
    code = "from src.tracking.environment import command_line; print(command_line())"
    done = subprocess.run([sys.executable, "-c", code, "two words"], capture_output=True, text=True, check=True)
    assert done.stdout == "python -c 'two words'\n"
