"""Runs whose process was killed: what it could not send is sent, and the run is ended."""

import signal
import subprocess
import sys
from pathlib import Path

from src.tracking.abandoned_runs import end_abandoned
from src.tracking.mlflow_client import make_client, tracking_uri
from tests.tracking.test_mlflow_tracker import ROOT, start


def test_the_log_of_a_killed_process_is_sent(elsewhere: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from src.config.schema import TrackConfig; from src.tracking.mlflow_tracker import Tracker;"
        "t = Tracker.start(TrackConfig('tests', 'one'), Path('runs/one'), {'a': 1}, every=1000, resources=0);"
        "t.log_metrics({'x': 1.0}, 7); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], cwd=elsewhere, timeout=500)
    assert done.returncode == -signal.SIGKILL
    folder = Path("runs/one")
    run_id = (folder / "run_id.txt").read_text().strip()
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"call": "metr')  # what a kill within a write leaves
    client = make_client(tracking_uri())
    assert client.get_run(run_id).info.status == "RUNNING"
    assert end_abandoned(folder, "KILLED")
    assert not end_abandoned(folder, "FAILED")
    run = client.get_run(run_id)
    assert (run.info.status, run.data.metrics) == ("KILLED", {"x": 1.0})
    with start(folder) as tracker:
        assert tracker.run_id == run_id
    assert client.get_run(run_id).data.params["a"] == "1"


def test_an_end_that_a_process_wrote_but_died_before_sending_is_sent(elsewhere: Path) -> None:
    folder = Path("runs/one")
    tracker = start(folder)
    tracker.stopped.set()
    tracker.thread.join()
    tracker.outbox.put_end("FINISHED")
    tracker.lock.close()
    assert end_abandoned(folder, "KILLED")
    assert make_client(tracking_uri()).get_run(tracker.run_id).info.status == "FINISHED"
    assert not end_abandoned(folder, "KILLED")


def test_a_run_has_one_process(elsewhere: Path) -> None:
    with start(Path("runs/one")):
        code = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        code += "from src.tracking.abandoned_runs import *\n"
        code += "print(end_abandoned(Path('runs/one'), 'KILLED')); send_missed(Path('runs/one'))"
        done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, timeout=500)
    assert done.stdout == "False\n"
    assert "UserError: runs/one: another process works on this run" in done.stderr
