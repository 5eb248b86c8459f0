"""Finding a model by path, run id, run name or `best`, among real runs on sqlite."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from src.common.errors import UserError
from src.config.schema import TrackConfig
from src.tracking.mlflow_client import tracking_uri
from src.tracking.mlflow_tracker import Tracker
from src.tracking.run_registry import find_model, list_runs, register_model
from tests.tracking.test_mlflow_tracker import ROOT


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a sweep's run and six others, one on a split that leaks; some kept a model."""
    folder = tmp_path_factory.mktemp("a?b=c d#e%20é{x}")  # addresses of databases and artifacts must quote this
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with start("sweep", {"kind": "sweep"}) as parent:
            parent.log_metrics({"selected": 9.0})
            add("small", 0.5, parent=parent.run_id)
            add("large", 0.9, parent=parent.run_id)
        add("large", 0.7, folder="large_again")
        add("hopeless", float("nan"))
        add("leaking", 8.0, params={"data": {"sources": [{"split": "leaking_pairs"}]}})
        broken = start("broken")
        broken.log_metrics({"val/selected": 5.0})
        broken.end("FAILED")
        yield folder


def start(
    name: str,
    tags: dict[str, str] | None = None,
    parent: str = "",
    folder: str = "",
    params: dict[str, Any] | None = None,
) -> Tracker:
    track = TrackConfig("tests", name, parent)
    return Tracker.start(track, Path("runs", folder or name), params or {"a": {"b": 1}}, tags, resources=0)


def add(name: str, selected: float, parent: str = "", folder: str = "", params: dict[str, Any] | None = None) -> None:
    """A finished run with a model folder that holds its score."""
    with start(name, parent=parent, folder=folder, params=params) as tracker:
        tracker.log_metrics({"val/selected": selected}, 1)
        (tracker.folder / "model").mkdir()
        for file in ("model.safetensors", "config.yaml"):
            (tracker.folder / "model" / file).write_text(str(selected))
        tracker.log_model(tracker.folder / "model")


@pytest.fixture
def inside(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(runs)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return runs


def test_model_by_path_name_id_and_best(inside: Path) -> None:
    newest = next(run for run in list_runs() if run.name == "large")
    assert newest.metrics == {"val/selected": 0.7}
    assert find_model("runs/small/model") == Path("runs/small/model")
    assert find_model("runs/small") == Path("runs/small/model")
    assert find_model("large") == Path("runs/large/model")
    assert find_model("large_again") == Path("runs/large_again/model")
    assert find_model(newest.id) == Path("runs/large_again/model")
    assert find_model("best") == inside / "runs/large/model"


def test_model_is_fetched_where_its_run_folder_is_gone(inside: Path) -> None:
    assert {path.name for path in inside.iterdir()} == {"runs", "mlflow.db", "mlflow.db.lock", "mlartifacts"}
    shutil.move("runs/small", "elsewhere")
    try:
        found = find_model("small")
        run_id = next(run.id for run in list_runs() if run.name == "small")
        assert found == Path("cache/models") / run_id
        assert (found / "model.safetensors").read_text() == "0.5"
        assert find_model("small") == found
        assert [path.name for path in Path("cache/models").iterdir() if path.is_dir()] == [run_id]
    finally:
        shutil.move("elsewhere", "runs/small")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lagre", "no run is called so; nearest: large"),
        ("broken", "failed, not finished"),
        ("sweep", "model cannot be fetched"),
        ("runs", "no model folder"),
    ],
)
def test_wrong_name_is_the_users_error(inside: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        find_model(name)
    assert "\n" not in str(caught.value)


def test_models_of_a_project_that_was_moved(inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {run.name: run for run in list_runs()}
    moved = shutil.copytree(inside, tmp_path / "moved")
    shutil.move(inside, tmp_path / "gone")
    try:
        monkeypatch.chdir(moved)
        assert find_model("small") == find_model(runs["small"].id) == Path("runs/small/model")
        assert find_model("best") == Path("runs/large/model")
        (moved / "mlflow.db").unlink()
        assert find_model("small") == find_model(runs["small"].id) == Path("runs/small/model")
    finally:
        shutil.move(tmp_path / "gone", inside)


def test_run_folders_are_the_first_place(elsewhere: Path) -> None:
    scores = {"low": 0.1, "sound": 0.6, "none": None, "search-best-fold0": 0.2, "search-best-fold1": 0.5}
    for name, score in scores.items():
        finish(name, {"selected": score})
    finish("leaking", {"selected": 0.9}, "leaking_pairs")
    finish("damaged", {})
    (elsewhere / "runs/damaged/result.json").write_text("{")
    (elsewhere / "runs/sweep-search").mkdir()
    assert find_model("best") == Path("runs/sound/model")
    assert find_model("search") == Path("runs/search-best-fold1/model")
    assert find_model("damaged") == Path("runs/damaged/model")
    with pytest.raises(UserError, match="sond: no model folder and no run is called so; nearest: sound"):
        find_model("sond")


def finish(name: str, result: dict[str, Any], split: str = "random") -> None:
    folder = Path("runs", name)
    (folder / "model").mkdir(parents=True)
    for file in ("model.safetensors", "config.yaml"):
        (folder / "model" / file).touch()
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.json").write_text(json.dumps({"data": {"sources": [{"split": split}]}}))


def test_a_wrong_name_is_refused_before_mlflow_starts(inside: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from src.tracking.run_registry import find_model\n"
        "try: find_model('lagre')\nexcept Exception as error: print(error, 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, ROOT], cwd=inside, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lagre: no model folder and no run is called so; nearest: large False")


def test_runs_of_a_sweep_and_of_a_status(inside: Path) -> None:
    parent = next(run for run in list_runs() if run.name == "sweep")
    assert [run.name for run in list_runs("tests", parent=parent.id)] == ["large", "small"]
    assert [run.name for run in list_runs(status="FAILED")] == ["broken"]
    assert list_runs(parent=parent.id)[0].params == {"a.b": "1"}
    with pytest.raises(UserError, match="there are: Default, tests"):
        list_runs("test")


def test_no_runs_yet(elsewhere: Path) -> None:
    with pytest.raises(UserError, match=r"mlflow.db: no runs yet"):
        find_model("best")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql://127.0.0.1:1/x", "nosuch+driver://host/x"])
def test_no_answer_is_the_users_error(elsewhere: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=uri.partition(":")[0].replace("+", ".")) as caught:
        find_model("best")
    assert "\n" not in str(caught.value)


def test_a_sweep_stands_for_its_registered_best(inside: Path) -> None:
    runs = {run.metrics.get("val/selected"): run for run in list_runs() if run.name in ("small", "large")}
    register_model("sweep", runs[0.5].id)
    register_model("sweep", runs[0.5].id)
    assert find_model("sweep") == runs[0.5].folder / "model"  # the folder that MLflow notes
    register_model("sweep", runs[0.9].id)
    assert find_model("sweep") == runs[0.9].folder / "model"
    client = MlflowClient(tracking_uri())
    assert [v.version for v in client.search_model_versions("name = 'sweep'")] == [2, 1]
    assert client.get_model_version_by_alias("sweep", "best").run_id == runs[0.9].id
