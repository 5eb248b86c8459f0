"""Runs in MLflow: on sqlite, and on a real server that goes away."""

import json
import math
import mmap
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from src.common.errors import UserError
from src.config.schema import Config, DataConfig, SourceConfig, TrackConfig, to_dict
from src.tracking.abandoned_runs import send_missed
from src.tracking.mlflow_client import make_client, tracking_uri
from src.tracking.mlflow_tracker import Tracker, flatten_tree
from src.tracking.mlflow_ui import server_environment, ui_server_command
from src.tracking.run_log import read_metrics
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
    artifacts = {Path(artifact.path).name for artifact in client.list_artifacts(tracker.run_id)}
    assert artifacts == {"config.yaml", "environment.json", "samples"}
    about = json.loads(Path(client.download_artifacts(tracker.run_id, "environment.json")).read_text())
    assert about["versions"]["torch"].startswith("2.")
    assert sorted(path.name for path in elsewhere.iterdir()) == ["mlartifacts", "mlflow.db", "mlflow.db.lock", "runs"]
    assert tracker.outbox.waiting() == []
    assert read_metrics(elsewhere / "runs/one/history.jsonl")["train/loss"][-1] == (2499, 1 / 2500)


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


def test_unknown_kind_of_address_is_the_users_error(elsewhere: Path) -> None:
    with pytest.raises(UserError, match="gopher"):
        start(Path("runs/one"), uri="gopher://x")


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
    assert [call["call"] for call in tracker.outbox.waiting()] == ["metrics", "end"]
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
