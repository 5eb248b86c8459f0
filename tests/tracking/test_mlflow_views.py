"""Saved views of the MLflow UI: what they hold, and, marked browser, that the UI opens them."""

import base64
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from src.config.schema import TrackConfig
from src.tracking.mlflow_client import make_client, tracking_uri
from src.tracking.mlflow_tracker import Tracker
from src.tracking.mlflow_ui import server_environment
from src.tracking.mlflow_views import save_views
from tests.servers import free_port, wait_until_up

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runs(elsewhere: Path) -> dict[str, str]:
    """Two runs, and a search of two trials; the views saved of them."""
    for name, score in (("one", 1.0), ("two", 3.0), ("sweep-x-a", 2.0), ("sweep-x-b", 2.5)):
        tags = {"kind": "run"} | ({"sweep": "x", "status": "finished"} if "sweep" in name else {})
        with Tracker.start(TrackConfig(experiment="e", name=name), elsewhere / "runs" / name, {}, tags) as tracker:
            if name != "sweep-x-b":  # which was stopped early
                tracker.log_metrics({"selected": score, "best/plcc": score / 10})
            if "sweep" in name:
                tracker.log_metrics({"val/selected": score})
                tracker.log_params({"search.lr": str(score / 1000)})
    return save_views(make_client(tracking_uri()))


def test_views_show_scores_and_what_was_searched_best_first(runs: dict[str, str]) -> None:
    assert list(runs) == ["e: scores", "e: search x"]
    tags = make_client(tracking_uri()).get_experiment_by_name("e").tags
    kept = {key.rpartition(".")[2]: json.loads(value) for key, value in tags.items() if "sharedViewState" in key}
    assert {key: view["name"] for key, view in kept.items()} == {"scores": "scores", "sweep-x": "search x"}
    for key, view in kept.items():
        assert any(f"viewStateShareKey={key}" in path for path in runs.values())
        kind, packed = view["state"].split(";")
        state = json.loads(zlib.decompress(base64.b64decode(packed)))
        assert kind == "deflate"
        order, shown = (
            ("val/selected", {"val/selected"}) if key == "sweep-x" else ("selected", {"selected", "best/plcc"})
        )
        assert (state["orderByKey"], state["orderByAsc"]) == (f"metrics.`{order}`", False)
        assert {f"metrics.`{name}`" for name in shown} == {c for c in state["selectedColumns"] if "metrics" in c}
        assert ("params.`search.lr`" in state["selectedColumns"]) == (key == "sweep-x")
        client = make_client(tracking_uri())
        found = client.search_runs(["1"], filter_string=state["searchFilter"], order_by=[f"{state['orderByKey']} DESC"])
        expected = ["sweep-x-b", "sweep-x-a"] if key == "sweep-x" else ["two", "sweep-x-a", "one", "sweep-x-b"]
        assert [run.info.run_name for run in found] == expected


def test_saved_twice_a_view_is_there_once_and_a_persons_own_stays(runs: dict[str, str]) -> None:
    client = make_client(tracking_uri())
    client.set_experiment_tag("1", "mlflow.sharedViewState.mine", "{}")
    assert save_views(client) == runs
    tags = client.get_experiment("1").tags
    assert sum("sharedViewState" in key for key in tags) == 3
    assert tags["mlflow.sharedViewState.mine"] == "{}"


@pytest.mark.browser
def test_the_ui_opens_on_them(runs: dict[str, str], elsewhere: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    port = free_port()
    command = [sys.executable, "-m", "src.ui", "--port", str(port)]
    with (elsewhere / "ui.log").open("w") as log:
        environment = {**server_environment(), "PYTHONPATH": str(ROOT)}
        server = subprocess.Popen(command, cwd=elsewhere, env=environment, stdout=log, stderr=log)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/health", server)
        said = (elsewhere / "ui.log").read_text()
        with playwright.sync_playwright() as driver:
            flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
            browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
            page = browser.new_page(viewport={"width": 1600, "height": 900})
            for name, path in runs.items():
                assert f"{name}: http://127.0.0.1:{port}{path}" in said
                page.goto("about:blank")
                page.goto(f"http://127.0.0.1:{port}{path}")
                page.get_by_text("search.lr" if "search" in name else "best/plcc").first.wait_for()
                rows = page.get_by_role("link", name="sweep-x-")
                rows.first.wait_for()
                assert rows.all_inner_texts() == (
                    ["sweep-x-b", "sweep-x-a"] if "search" in name else ["sweep-x-a", "sweep-x-b"]
                )
            browser.close()
    finally:
        server.terminate()
        server.wait()
