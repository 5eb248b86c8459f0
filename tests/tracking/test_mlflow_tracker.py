"""Runs in MLflow: on sqlite, and on a real server that goes away."""

import json
import math
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from src.common.errors import UserError
from src.config.schema import Config, DataConfig, SourceConfig, TrackConfig, to_dict
from src.tracking.mlflow_sync import Outbox, make_client, tracking_uri
from src.tracking.mlflow_tracker import Tracker, end_abandoned, flatten_tree, send_missed
from src.tracking.mlflow_ui import server_environment, ui_server_command
from src.ui import main
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
CONFIG = to_dict(Config(data=DataConfig(sources=[SourceConfig(path="photos")])))


def start(folder: Path, name: str = "one", **more: object) -> Tracker:
    options = {"every": 0.05, "resources": 0.0, **more}
    return Tracker.start(TrackConfig("tests", name), folder, CONFIG, {"data": "abc"}, **options)  # type: ignore[arg-type]


def test_sqlite_run_carries_config_scores_and_files(elsewhere: Path) -> None:
    with start(Path("runs/one")) as tracker:
        for step in range(2500):  # more than one request takes
            tracker.log_metrics({"train/loss": 1 / (step + 1)}, step)
        tracker.log_text("a photo", "samples/epoch_1.txt")
    client = make_client(tracking_uri())
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "one"
    assert run.data.params["data.sources.0.path"] == "photos"
    assert run.data.params == {key: str(value) for key, value in flatten_tree(CONFIG).items()}
    assert run.data.tags["data"] == "abc"
    history = client.get_metric_history(tracker.run_id, "train/loss")
    assert [point.step for point in history] == list(range(2500))
    assert [point.value for point in history] == [1 / (step + 1) for step in range(2500)]
    assert yaml.safe_load((elsewhere / "runs/one/config.yaml").read_text()) == CONFIG
    kept = {Path(one.path).name for one in client.list_artifacts(tracker.run_id)}
    assert kept == {"config.yaml", "environment.json", "samples"}
    about = json.loads(Path(client.download_artifacts(tracker.run_id, "environment.json")).read_text())
    assert about["versions"]["torch"].startswith("2.")
    assert sorted(path.name for path in elsewhere.iterdir()) == ["mlartifacts", "mlflow.db", "mlflow.db.lock", "runs"]
    assert not (elsewhere / "runs/one/untracked.jsonl").exists()


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")])
def test_status_says_how_the_run_ended(elsewhere: Path, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), start(Path("runs/one")) as tracker:
        raise error
    assert make_client(tracking_uri()).get_run(tracker.run_id).info.status == status


def test_resumed_run_is_the_same_mlflow_run(elsewhere: Path) -> None:
    with start(Path("runs/one")) as first:
        run_id = first.run_id
        first.log_metrics({"val/plcc": 0.5}, 1)
    with start(Path("runs/one")) as second:
        assert make_client(tracking_uri()).get_run(run_id).info.status == "RUNNING"
        second.log_metrics({"val/plcc": 0.6}, 2)
    assert second.run_id == run_id
    history = make_client(tracking_uri()).get_metric_history(run_id, "val/plcc")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.6)]
    with start(Path("runs/one"), resume=False) as third:
        pass
    assert third.run_id != run_id


def test_what_mlflow_does_not_take_takes_nothing_else_with_it(
    elsewhere: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start(Path("runs/one")) as tracker:
        tracker.outbox.send(now=True)
        tracker.every, run_id = 1000.0, tracker.run_id
        tracker.log_text("a file", "plots")
        tracker.log_artifact(tracker.folder / "config.yaml", "plots")  # which is no folder
        tracker.log_metrics({"good": 1.0})
        tracker.log_metrics({"bad|name": 1.0})
        tracker.log_metrics({"bad": math.nan, "better": math.inf})
        tracker.log_params({"train": {"lr": "changed"}, "long": "x" * 9000})
    run = make_client(tracking_uri()).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["good"] == 1.0
    assert math.isnan(run.data.metrics["bad"])
    assert run.data.metrics["better"] > 1e300
    assert run.data.params["train.lr"] == str(CONFIG["train"]["lr"])
    assert run.data.params["long"] == "x" * 5997 + "..."
    refused, kept, waits = warnings(caplog)
    assert "bad|name" in refused
    assert "cannot store config.yaml" in kept
    assert "1 calls did not reach MLflow" in waits
    assert [json.loads(line)["metrics"] for line in Path("runs/one/refused.jsonl").read_text().splitlines()] == [
        {"bad|name": 1.0}
    ]
    (elsewhere / "mlartifacts" / run_id / "artifacts" / "plots").unlink()
    assert send_missed(Path("runs/one"))
    assert [one.path for one in make_client(tracking_uri()).list_artifacts(run_id, "plots")] == ["plots/config.yaml"]


def test_address_of_a_database_holds_in_any_folder(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri() == f"sqlite:///{elsewhere}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///a/b.db")
    assert tracking_uri() == f"sqlite:///{elsewhere}/a/b.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://host/mlflow")
    assert tracking_uri() == "https://host/mlflow"


def test_unknown_kind_of_address_is_the_users_error(elsewhere: Path) -> None:
    with pytest.raises(UserError, match="gopher"):
        start(Path("runs/one"), uri="gopher://x")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql://127.0.0.1:1/x"])
def test_the_ui_of_what_does_not_answer_is_the_users_error(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=f"MLflow at {uri} does not answer") as caught:
        main(["--port", str(free_port())])
    assert "\n" not in str(caught.value)


def test_only_a_run_can_be_sent(elsewhere: Path) -> None:
    for folder in (elsewhere, elsewhere / "absent"):
        with pytest.raises(UserError, match=f"{folder}: holds no run"):
            main(["--send", str(folder)])
    assert not list(elsewhere.iterdir())


def test_full_outbox_of_a_killed_process_is_sent_when_its_run_goes_on(elsewhere: Path) -> None:
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
    with (folder / "untracked.jsonl").open("a") as file:
        file.write('{"call": "metr')  # what a kill within a write leaves
    client = make_client(tracking_uri())
    assert client.get_run(run_id).info.status == "RUNNING"
    assert end_abandoned(folder, "KILLED")
    assert not end_abandoned(folder, "FAILED")
    found = client.get_run(run_id)
    assert (found.info.status, found.data.metrics) == ("KILLED", {"x": 1.0})
    with start(folder) as tracker:
        assert tracker.run_id == run_id
    assert client.get_run(run_id).data.params["a"] == "1"


def test_an_end_that_a_process_wrote_but_died_before_sending_is_sent(elsewhere: Path) -> None:
    folder = Path("runs/one")
    tracker = start(folder)
    tracker.over.set()
    tracker.thread.join()
    tracker.outbox.put({"call": "end", "status": "FINISHED", "time": 1})
    tracker.lock.close()
    assert end_abandoned(folder, "KILLED")
    assert make_client(tracking_uri()).get_run(tracker.run_id).info.status == "FINISHED"
    assert not end_abandoned(folder, "KILLED")


def metric(value: int) -> dict[str, Any]:
    return {"call": "metrics", "metrics": {"x": value}, "step": value, "time": 1}


def test_a_call_that_a_full_disk_cuts_short_is_the_only_one_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(tmp_path, "http://127.0.0.1:1")
    outbox.put(metric(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (outbox.spool.stat().st_size + 10, limits[1]))
    try:
        outbox.put(metric(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    outbox.put(metric(2))
    assert outbox.waiting() == [metric(0), metric(2)]
    assert ["cannot be written" in line for line in warnings(caplog)] == [True]


def test_a_damaged_line_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls = [json.dumps(metric(value)) for value in range(3)]
    damaged = ['{"call": "metr' + calls[1], "\0\0", "7"]
    (tmp_path / "untracked.jsonl").write_text("\n".join([calls[0], *damaged, calls[2]]))
    outbox = Outbox(tmp_path, "http://127.0.0.1:1")
    outbox.put(metric(3))
    assert outbox.waiting() == [metric(0), metric(2), metric(3)]
    [told] = warnings(caplog)
    assert "3 damaged lines" in told
    assert (tmp_path / "unreadable.jsonl").read_text().splitlines() == damaged


def test_a_run_has_one_process(elsewhere: Path) -> None:
    with start(Path("runs/one")):
        code = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        code += "from src.tracking.mlflow_tracker import *\n"
        code += "print(end_abandoned(Path('runs/one'), 'KILLED')); send_missed(Path('runs/one'))"
        done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, timeout=500)
    assert done.stdout == "False\n"
    assert "UserError: runs/one: another process works on this run" in done.stderr


def test_resources_are_tracked(elsewhere: Path) -> None:
    # The map goes back to the system when it is closed, whatever malloc was told to keep.
    with start(Path("runs/one"), resources=0.1) as tracker, mmap.mmap(-1, 200_000_000) as ballast:
        for _ in range(200):
            ballast.write(bytes(1_000_000))
        time.sleep(0.5)
        run_id = tracker.run_id
    history = make_client(tracking_uri()).get_metric_history(run_id, "system/memory_gb")
    rss = psutil.Process().memory_info().rss / 1e9
    assert len(history) >= 3
    assert max(point.value for point in history) > rss + 0.1
    assert 0 <= make_client(tracking_uri()).get_run(run_id).data.metrics["system/cpu_percent"] <= 100


def test_two_processes_make_one_database(elsewhere: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import mlflow;"
        "from src.tracking.mlflow_sync import experiment_id, make_client, tracking_uri;"
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


def test_server_that_comes_late_and_dies(elsewhere: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    database = f"sqlite:///{elsewhere / 'server.db'}"
    with start(Path("runs/one"), uri=f"http://127.0.0.1:{port}") as tracker:
        for step in range(50):
            tracker.log_metrics({"x": step}, step)
            tracker.outbox.next_try = 0.0  # no pause: every delivery meets the closed port
            time.sleep(0.01)
        assert len(warnings(caplog)) == 1
        assert "does not answer" in warnings(caplog)[0]
        assert tracker.run_id == ""
        with server(database, port):
            assert tracker.flush()
            run_id = tracker.run_id
            kept = tracker.outbox.client.download_artifacts(run_id, "config.yaml", str(elsewhere))  # type: ignore[union-attr]
            assert yaml.safe_load(Path(kept).read_text()) == CONFIG
        tracker.log_metrics({"x": 50}, 50)
    assert [
        next(words for words in ("does not answer", "is back", "did not reach") if words in line)
        for line in warnings(caplog)
    ] == ["does not answer", "is back", "does not answer", "did not reach"]
    waiting = [json.loads(line)["call"] for line in Path("runs/one/untracked.jsonl").read_text().splitlines()]
    assert waiting == ["metrics", "end"]
    client = make_client(database)
    assert [point.step for point in client.get_metric_history(run_id, "x")] == list(range(50))
    assert client.get_run(run_id).info.status == "RUNNING"
    assert send_missed(Path("runs/one"), database)
    assert [point.value for point in client.get_metric_history(run_id, "x")] == list(range(51))
    assert client.get_run(run_id).info.status == "FINISHED"


@contextmanager
def server(database: str, port: int) -> Iterator[None]:
    """A real MLflow server, killed at the end of the block."""
    command = [*ui_server_command(database, port), "--artifacts-destination", "served"]
    command[command.index("--default-artifact-root") + 1] = "mlflow-artifacts:/"
    with Path("server.log").open("wb") as log:
        process = subprocess.Popen(command, env=server_environment(), stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(1200):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Our own warnings so far."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("src.")]
