"""Runs in MLflow: on sqlite, and on a real server that goes away."""

import json
from pathlib import Path

import pytest
import yaml

from src.config import Config, DataConfig, SourceConfig, TrackConfig, to_dict
from src.errors import UserError
from src.outbox import make_client, tracking_uri
from src.tracking import Tracker, flatten

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
    assert run.data.params == {key: str(value) for key, value in flatten(CONFIG).items()}
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
    with start(Path("runs/one"), resume=True) as second:
        assert make_client(tracking_uri()).get_run(run_id).info.status == "RUNNING"
        second.log_metrics({"val/plcc": 0.6}, 2)
    assert second.run_id == run_id
    history = make_client(tracking_uri()).get_metric_history(run_id, "val/plcc")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.6)]
    with start(Path("runs/one")) as third:
        pass
    assert third.run_id != run_id


def test_unknown_kind_of_address_is_the_users_error(elsewhere: Path) -> None:
    with pytest.raises(UserError, match="gopher"):
        start(Path("runs/one"), uri="gopher://x")
