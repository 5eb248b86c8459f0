"""Locks against other processes, on disks with and without them."""

import errno
import fcntl
import logging
import os
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

from src.common.file_locks import file_lock
from src.data.feature_store import FeatureSpec, FeatureStore
from src.tracking.run_lock import hold_run


@pytest.mark.parametrize("shared", [False, True])
def test_a_lock_holds_off_other_processes(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "lock"
    with file_lock(path, shared):
        assert try_lock(path, "LOCK_EX") == "refused"
        assert try_lock(path, "LOCK_SH") == ("taken" if shared else "refused")
    assert try_lock(path, "LOCK_EX") == "taken"


def try_lock(path: Path, kind: str) -> str:
    """Whether another process gets a lock at once: taken or refused."""
    script = f"""
import fcntl
try:
    fcntl.flock(open({str(path)!r}), fcntl.{kind} | fcntl.LOCK_NB)
    print("taken")
except BlockingIOError:
    print("refused")
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def disk_without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A disk that refuses every lock; the reason that it gives."""

    def refuse(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    return os.strerror(request.param)


def test_without_locks_every_holder_goes_on_after_a_warning(
    tmp_path: Path, disk_without_locks: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = FeatureStore(tmp_path, FeatureSpec("grid", "print", 32, flip=False))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with store.locked(), file_lock(tmp_path / "a.lock", shared=True), hold_run(tmp_path):
                pass
    places = [store.folder / "lock", tmp_path / "a.lock", tmp_path / ".tracking.lock"]
    about = "let no second process work there at the same time"
    assert caplog.messages == [f"{path}: cannot be locked ({disk_without_locks}); {about}" for path in places]


def test_a_waiting_process_says_what_it_waits_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with file_lock(tmp_path / "free", notice="not said"):
        pass
    other = (tmp_path / "taken").open("a")
    fcntl.flock(other, fcntl.LOCK_EX)
    Timer(0.2, other.close).start()
    with file_lock(tmp_path / "taken", notice="waiting for another process"):
        assert other.closed
    assert capsys.readouterr().err == "waiting for another process\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_reader_needs_no_lock_where_it_may_not_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with file_lock(tmp_path / "lock", shared=True):
        pass
    with pytest.raises(PermissionError), file_lock(tmp_path / "lock"):
        pass
