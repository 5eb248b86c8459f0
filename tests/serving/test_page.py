"""The page: run by Streamlit's own test harness, and, marked browser, used in a real browser."""

import base64
import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from src.app import main
from src.common.errors import UserError
from src.data.image_url import download_image
from src.data.leaky_split import LEAKING
from src.inference.predict_options import PredictOptions
from src.inference.predictor import BeamCaption, Predictor
from src.serving.access_token import VARIABLE
from src.serving.page import photo_tab
from src.serving.page.attention_view import attention_maps
from src.serving.page.camera_tab import predict_frame
from src.serving.page.model_list import MlflowRuns, available_models
from src.serving.page.model_selection import SelectedModel
from src.serving.page.mos_scale import histogram_bars
from src.serving.page_server import PageOptions, streamlit_command
from src.tracking.finished_runs import RunGroup
from src.tracking.run_group import write_group
from src.tracking.run_registry import RunRecord
from tests.servers import free_port, wait_until_up
from tests.tiny import make_model, tiny_config, write_photo

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    kept = {"mos_percentiles": [2.0, 4.0, 5.0, 6.0, 8.0], "mos_range": [2.0, 8.0]}
    config = tiny_config()
    config.data.caption_size = 128  # a grid of 4 x 4 places, to look at
    return str(make_model(folder / "first", config, **kept)), str(make_model(folder / "second", config, seed=1))


@pytest.fixture
def photo(tmp_path: Path) -> bytes:
    write_photo(tmp_path / "photo.jpg", 1)
    return (tmp_path / "photo.jpg").read_bytes()


@pytest.fixture(autouse=True)
def own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives back `__main__`, which Streamlit replaces by its script: processes spawned later would run that."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """The module __main__, in whose place Streamlit puts each page's script; new processes would import it."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture
def page(elsewhere: Path, models: tuple[str, str]) -> AppTest:
    for seed in range(3):
        write_photo(elsewhere / "open" / f"{seed}.jpg", seed)
        write_photo(elsewhere / "closed" / f"{seed}.jpg", seed)
    (elsewhere / "open" / "broken.jpg").write_bytes(b"no photo")
    foreign = os.fsdecode(b"\xc7\xd1")  # no UTF-8
    write_photo(elsewhere / "open" / foreign / f"{foreign}.jpg", 4)
    return AppTest.from_function(script, args=(PageOptions(models, ("open",)),), default_timeout=60)


def script(options: "PageOptions") -> None:
    from src.serving.page.main import show_page

    show_page(options)


def run(page: AppTest) -> AppTest:
    page.run()
    assert not page.exception
    return page


def run_until(page: AppTest, ready: Callable[[AppTest], object]) -> AppTest:
    """Runs the page again and again, as its browser does, until MLflow has answered."""
    end = time.monotonic() + 60
    while not ready(run(page)):
        assert time.monotonic() < end, texts(page)
        time.sleep(0.2)
    return page


def beams(page: AppTest) -> list[Any]:
    """The choices of a caption, one for each prediction."""
    return [radio for radio in page.radio if radio.label == "Captions of the beam"]


def texts(page: AppTest) -> str:
    """All that the page says, in one string."""
    bodies = [
        element.value
        for kind in ("text", "markdown", "caption", "error", "warning", "info")
        for element in getattr(page, kind)
    ]
    return "\n".join(bodies) + "\n".join(element.proto.body for element in page.get("html"))


def test_a_photo_gets_mos_beam_and_time_of_each_model(page: AppTest, photo: bytes, models: tuple[str, str]) -> None:
    run(page).file_uploader[0].set_value(("a.jpg", photo, "image/jpeg"))
    run(page)
    assert len(beams(page)) == 1
    assert len(beams(page)[0].options) == 2  # the beam, as wide as the model's own
    assert len(page.get("iframe")) == 1
    assert "mos " in texts(page)
    assert "% of the training photos" in texts(page)
    assert any(element.value.endswith(" ms") for element in page.caption)
    first = beams(page)[0].options[0]
    page.multiselect[0].set_value(["first", "second"])
    page.slider[0].set_value(5)
    run(page)
    assert [len(radio.options) for radio in beams(page)] == [5, 5]
    page.multiselect[0].set_value(["second"])
    run(page)
    assert beams(page)[0].options[0] != first


def test_a_model_or_group_that_is_named_is_offered_once(elsewhere: Path) -> None:
    make_model(elsewhere / "runs" / "demo" / "model")
    make_model(elsewhere / "runs" / "other" / "model")
    write_group(RunGroup(Path("runs/both"), "both", 0, 2, ["demo", "other"]))
    page = AppTest.from_function(script, args=(PageOptions(("runs/demo",)),), default_timeout=60)
    assert run(page).multiselect[0].options == ["demo", "other", "both"]
    page = AppTest.from_function(script, args=(PageOptions(("both",)),), default_timeout=60)
    assert run(page).multiselect[0].options == ["both", "demo", "other"]
    page.toggle[0].set_value(True)
    run(page)
    assert "mos " in texts(page)


def make_run(runs: Path, name: str, score: float | None = None, split: str = "random", model: bool = True) -> None:
    """A run folder with the files of a run that ended with a score, or that did not end."""
    folder = runs / name
    folder.mkdir(parents=True)
    if model:
        (folder / "model").mkdir()
        (folder / "model" / "model.safetensors").touch()
        (folder / "model" / "config.yaml").touch()
    (folder / "config.json").write_text(json.dumps({"data": {"sources": [{"split": split}]}}))
    (folder / "run_id.txt").write_text(f"id of {name}")
    if score is not None:
        result = {"run_id": f"id of {name}", "model": f"/another/machine/{name}/model", "selected": score}
        (folder / "result.json").write_text(json.dumps(result))


def test_the_best_run_is_offered_first_and_one_without_a_model_not_at_all(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(elsewhere / "runs", "a_killed")
    make_run(elsewhere / "runs", "a_leaky", 9.0, LEAKING)
    make_run(elsewhere / "runs", "a_stopped", model=False)
    make_run(elsewhere / "runs", "a_undefined", float("nan"))
    make_run(elsewhere / "runs", "fair", 0.5)
    make_run(elsewhere / "runs", "the_best", 0.9)
    assert list(available_models((), [])) == ["the_best", "fair", "a_killed", "a_leaky", "a_undefined"]
    shutil.copytree("runs", "moved/runs")
    monkeypatch.chdir("moved")
    models = available_models(("runs/fair",), [])
    assert list(models) == ["fair", "the_best", "a_killed", "a_leaky", "a_undefined"]
    assert models["the_best"] == str(elsewhere / "moved" / "runs" / "the_best" / "model")


def test_mlflow_adds_the_models_of_other_places(elsewhere: Path) -> None:
    make_run(elsewhere / "runs", "here", 0.5)
    scores = {"stopped": {"val/selected": 9.0}, "sweep": {"selected": 9.0}, "fair": {"selected": 1.0}}
    scores |= {"best": {"selected": 2.0}, "id of here": {"selected": 3.0}}
    runs = [
        RunRecord(name, name, "FINISHED", 0, None, metrics, {}, {"kind": name} if name == "sweep" else {})
        for name, metrics in scores.items()
    ]
    runs.append(RunRecord("failed", "failed", "FAILED", 0, None, {"selected": 4.0}, {}, {}))
    assert list(available_models((), runs).values())[1:] == ["best", "fair"]


def test_the_page_does_not_wait_for_mlflow(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = MlflowRuns("sqlite:///none.db")
    mlflow.refresh()
    mlflow.thread.join(60)
    assert not mlflow.loading
    assert "no runs yet" in mlflow.problem
    page = AppTest.from_function(script, args=(PageOptions(),), default_timeout=60)
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:  # accepts, and does not answer
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        make_run(elsewhere / "runs", "here", 0.5)
        assert run(page).multiselect[0].options == ["here"]
        assert "Looking for more models in MLflow" in texts(page)


def test_a_model_that_cannot_be_loaded_is_a_line_beside_the_others(elsewhere: Path) -> None:
    make_model(elsewhere / "runs" / "good" / "model")
    make_run(elsewhere / "runs", "damaged", 1.0)
    page = AppTest.from_function(script, args=(PageOptions(),), default_timeout=60)
    assert run(page).multiselect[0].value == ["damaged"]
    assert "is no model folder" in page.error[0].value
    page.multiselect[0].set_value(["damaged", "good"])
    assert len(run(page).slider) == 1  # the beam of the good one


def test_a_photo_of_the_web_is_predicted(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_tab, "download_image", partial(download_image, allow_private=True))
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        run(page).text_input[0].set_value(f"{address}/open/1.jpg?size=2")
        assert len(beams(run(page))) == 1
        assert "1.jpg" in texts(page).split("\n")
        page.text_input[0].set_value(f"{address}/none.jpg")
        assert "404" in run(page).error[0].value
        server.shutdown()
    monkeypatch.undo()
    page.text_input[0].set_value(f"{address}/private.jpg")
    assert "private" in run(page).error[0].value


def test_a_frame_of_the_camera_is_predicted(elsewhere: Path, models: tuple[str, str], photo: bytes) -> None:
    model = SelectedModel("first", models[0], 0.0, Predictor.load(Path(models[0])), PredictOptions(attention=True))
    answer = predict_frame(PageOptions(), model, {"id": 3, "image": base64.b64encode(photo).decode()})
    [expected] = model.predict(PageOptions(), [photo])
    assert (answer["id"], answer["caption"]) == (3, expected.captions[0].text)
    assert answer["mos"] == f"mos {expected.mos:.2f}"
    for image in ("no base64!", base64.b64encode(b"no photo").decode()):
        answer = predict_frame(PageOptions(), model, {"id": 4, "image": image})
        assert answer.keys() == {"id", "error"}


def test_copies_of_one_photo_are_answered_each(page: AppTest, photo: bytes) -> None:
    run(page).file_uploader[0].set_value([(name, photo, "image/jpeg") for name in ("a.jpg", "b.jpg")])
    run(page)
    assert len(beams(page)) == 2
    assert {"a.jpg", "b.jpg"} <= set(texts(page).split("\n"))


def test_bad_uploads_are_one_line_each(page: AppTest, photo: bytes) -> None:
    bad = {"../../etc/passwd.jpg": b"no photo", "short.jpg": photo[: len(photo) // 2], "none.jpg": b""}
    files = [(name, data, "image/jpeg") for name, data in bad.items()]
    run(page).file_uploader[0].set_value([*files, ("good.jpg", photo, "image/jpeg")])
    run(page)
    assert len(page.error) == 3
    assert all("\n" not in error.value and error.value.startswith("This photo ") for error in page.error)
    assert len(beams(page)) == 1  # the good one is answered all the same


def test_the_demo_has_photos_of_its_own(page: AppTest) -> None:
    run(page).toggle[0].set_value(True)
    run(page)
    assert len(beams(page)) == 4
    assert len(page.get("iframe")) == 4


def test_a_folder_becomes_a_table(page: AppTest) -> None:
    run(page)
    folder = next(box for box in page.selectbox if box.label == "Folder")
    assert folder.options == ["open", r"open/\udcc7\udcd1"]  # no other folder can be asked for
    next(button for button in page.button if button.label == "Predict").click()
    run(page)
    table = page.dataframe[0].value
    assert table["photo"].tolist() == ["0.jpg", "1.jpg", "2.jpg", "broken.jpg", r"\udcc7\udcd1/\udcc7\udcd1.jpg"]
    assert table["mos"].notna().tolist() == [True, True, True, False, True]
    assert table["note"].tolist()[3] == "is no photo"
    assert page.warning[0].value.endswith("not in the downloads: 1.")
    assert len(page.get("download_button")) == 2


def test_a_zip_becomes_a_table(page: AppTest, elsewhere: Path) -> None:
    next(radio for radio in run(page).radio if radio.label == "Photos of").set_value("A zip of photos")
    run(page)
    with zipfile.ZipFile(elsewhere / "photos.zip", "w") as archive:
        archive.write("open/1.jpg", "album/1.jpg")
        archive.write("open/2.jpg", "../2.jpg")
    predict_zip(page, (elsewhere / "photos.zip").read_bytes())
    assert page.dataframe[0].value["photo"].tolist() == ["album/1.jpg"]
    assert page.warning[0].value == "Left out of the zip: 1 with a path out of the zip."
    predict_zip(page, b"no zip")
    assert "no zip" in page.error[0].value


def predict_zip(page: AppTest, data: bytes) -> None:
    """Uploads a zip and presses the button."""
    uploader = next(uploader for uploader in page.file_uploader if uploader.label == "Zip of photos")
    uploader.set_value(("photos.zip", data, "application/zip"))
    next(button for button in run(page).button if button.label == "Predict").click()
    run(page)


def test_runs_are_held_side_by_side(page: AppTest) -> None:
    pytest.importorskip("mlflow")
    from src.tracking.mlflow_client import make_client, tracking_uri

    client = make_client(tracking_uri())
    experiment = client.create_experiment("pages")
    for name, plcc in (("one", 0.5), ("two", 0.7)):
        made = client.create_run(experiment, run_name=name)
        client.log_metric(made.info.run_id, "best/plcc", plcc)
        client.log_param(made.info.run_id, "train.lr", str(plcc / 100))
        client.log_param(made.info.run_id, "train.epochs", "3")
        client.set_terminated(made.info.run_id)
    run_until(page, lambda page: page.dataframe)
    listed, scores, differing = (table.value for table in page.dataframe)
    assert set(listed["run"]) == {"one", "two"}
    assert sorted(scores.loc["plcc"].tolist()) == [0.5, 0.7]
    assert differing.index.tolist() == ["train.lr"]  # what they share is not shown


def test_without_any_model_the_page_says_what_to_do(elsewhere: Path) -> None:
    page = AppTest.from_function(script, args=(PageOptions(),), default_timeout=60)
    assert "src.train" in run_until(page, lambda page: page.error).error[0].value
    assert len(page.error) == 1


def test_the_spread_of_training_photos_is_their_histogram() -> None:
    import numpy as np

    mos = np.random.default_rng(0).normal(5, 1, 10_000)
    bars = histogram_bars(np.percentile(mos, range(101)).tolist(), float(mos.min()), float(mos.max()))
    counted, _ = np.histogram(mos, bins=len(bars))
    np.testing.assert_allclose(bars, counted / counted.max(), atol=0.06)


def test_attention_that_says_nothing_is_not_shown() -> None:
    import numpy as np

    assert attention_maps(BeamCaption("a b", 0.0, ["a", "b"], np.full((3, 4), 0.25))) == {}
    assert attention_maps(BeamCaption("a b", 0.0, ["a", "b"], np.eye(3, 6))) == {}  # no square
    shown = attention_maps(BeamCaption("a b", 0.0, ["a", "b"], np.eye(3, 4)))
    assert (shown["side"], shown["words"], shown["maps"][0]) == (2, ["a", "b", "(end)"], [1, 0, 0, 0])


def test_nothing_is_shown_before_the_token(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "the-token")
    run(page)
    for wrong in ("", "the-toke", "the-token2", "ümlaut"):
        page.text_input[0].set_value(wrong)
        page.button[0].click()
        run(page)
        assert [field.label for field in page.text_input] == ["Token"]
        assert [error.value for error in page.error] == ["This is not the page's token."]
        assert [*page.tabs, *page.sidebar.multiselect, *page.get("file_uploader")] == []
    page.text_input[0].set_value("the-token")
    page.button[0].click()
    run(page)
    assert len(page.tabs) == 4
    assert "Token" not in [field.label for field in page.text_input]
    assert len(run(page).tabs) == 4  # it is not asked for again


def test_the_token_is_not_on_the_command_line_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda path, command, variables: processes.append((command, variables)))
    main(["--host", "0.0.0.0", "--port", str(free_port()), "--token", "the-token"])
    [(command, variables)] = processes
    assert "the-token" not in " ".join(command)
    assert variables[VARIABLE] == "the-token"


def test_the_server_listens_on_this_machine_and_tells_nobody() -> None:
    options = PageOptions(("a", "b"), photos=3)
    assert PageOptions.from_json(options.to_json()) == options
    command = " ".join(streamlit_command("127.0.0.1", 8501, options))
    assert "--server.address 127.0.0.1" in command
    assert "--browser.gatherUsageStats false" in command
    assert "--server.maxUploadSize 200 " in command
    assert command.endswith(f"-- {options.to_json()}")
    with pytest.raises(UserError, match="^--at-once: is 0"):
        main(["--at-once", "0"])
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="--port"):
        main(["--port", str(taken.getsockname()[1])])


def test_a_mistyped_model_is_named_before_the_page_is_served(
    elsewhere: Path, models: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "typo").mkdir()
    with pytest.raises(UserError, match="^typo: no model folder"):
        main(["--port", str(free_port()), "--model", models[0], "typo"])
    assert not capsys.readouterr().out


@pytest.fixture(scope="module")
def address(models: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page as the command serves it, from an empty folder."""
    here = tmp_path_factory.mktemp("served")
    for seed in range(3):
        write_photo(here / "data" / f"{seed}.jpg", seed, 200)
    port = free_port()
    command = [sys.executable, "-m", "src.app", "--port", str(port), "--megabytes", "1", "--model", *models]
    process = subprocess.Popen(command, cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_until_up(f"http://127.0.0.1:{port}/_stcore/health", process)
        yield f"http://127.0.0.1:{port}"
        assert {path.name for path in here.iterdir()} <= {"data"}  # nothing was written beside it
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.browser
def test_in_a_real_browser(address: str, models: tuple[str, str], tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    shots = Path(os.environ.get("SHOTS", tmp_path))
    write_photo(tmp_path / "photo.jpg", 1, 300)
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    (tmp_path / "large.jpg").write_bytes(b"x" * 2_000_000)
    with sync_playwright() as playwright:
        page, wrong = open_page(playwright, address)
        upload(page, tmp_path / "photo.jpg")
        words = page.frame_locator("iframe").first.locator("#words span")
        expect(words.first).to_be_visible()
        assert words.count() >= 2
        canvas = page.frame_locator("iframe").first.locator("canvas")
        blank = canvas.evaluate("one => one.toDataURL()")
        words.first.hover()
        assert canvas.evaluate("one => one.toDataURL()") != blank  # the map of the word pointed at
        page.screenshot(path=shots / "photo.png", full_page=True)
        expect(page.get_by_text(re.compile(r"^mos \d"))).to_have_count(1)
        pick(page, "second")
        expect(page.get_by_text(re.compile(r"^mos \d"))).to_have_count(2)
        page.wait_for_timeout(500)
        page.screenshot(path=shots / "two.png", full_page=True)
        upload(page, tmp_path / "bad.jpg")
        expect(page.get_by_text("This photo is no photo.")).to_be_visible()
        upload(page, tmp_path / "large.jpg")
        expect(page.get_by_text(re.compile("must be 1.0MB or smaller|exceeds", re.I)).first).to_be_visible()
        page.screenshot(path=shots / "bad.png", full_page=True)
        page.context.browser.close()
    assert not wrong


@pytest.mark.browser
def test_a_folder_and_a_zip_in_a_real_browser(address: str, tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    shots = Path(os.environ.get("SHOTS", tmp_path))
    for seed in range(4):
        write_photo(tmp_path / f"{seed}.jpg", seed, 200)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "3.jpg", "album/3.jpg")
        archive.writestr("album/.hidden.jpg", os.urandom(1_500_000))  # a zip may be larger than a photo
    with sync_playwright() as playwright:
        page, wrong = open_page(playwright, address)
        page.get_by_role("tab", name="Folder or zip").click()
        page.get_by_role("button", name="Predict", exact=True).click()
        expect(page.get_by_text("data, first: 3 photos")).to_be_visible()
        page.wait_for_timeout(500)
        page.screenshot(path=shots / "folder.png")
        rows = list(csv.DictReader(downloaded(page, "Download predictions (CSV)").open(encoding="utf-8")))
        assert [row["img_name"] for row in rows] == ["0.jpg", "1.jpg", "2.jpg"]
        page.get_by_text("A zip of photos").click()
        page.locator('input[type="file"][accept*="zip"]').set_input_files(tmp_path / "photos.zip")
        expect(page.get_by_text("photos.zip")).to_be_visible()
        page.get_by_role("button", name="Predict", exact=True).click()
        expect(page.get_by_text("photos.zip, first: 1 photo")).to_be_visible()
        expect(page.get_by_text("Left out of the zip: 1 hidden.")).to_be_visible()
        page.wait_for_timeout(500)
        page.screenshot(path=shots / "zip.png")
        with zipfile.ZipFile(downloaded(page, "Download captions (.txt)")) as archive:
            assert archive.namelist() == ["album/3.txt"]
        page.context.browser.close()
    assert not wrong


@pytest.mark.browser
def test_the_camera_in_a_real_browser(address: str, tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    shots = Path(os.environ.get("SHOTS", tmp_path))
    with sync_playwright() as playwright:
        page, wrong = open_page(playwright, address)
        page.get_by_role("tab", name="Camera").click()
        page.get_by_text("Take a picture").click()
        page.get_by_role("button", name="Take Photo").click()
        expect(page.get_by_text(re.compile(r"^mos \d")).first).to_be_visible()
        page.screenshot(path=shots / "picture.png", full_page=True)
        page.get_by_text("Live captions").click()
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#caption")).not_to_be_empty()
        expect(page.get_by_text("predictions a second")).to_be_visible()  # a second frame has followed the first
        page.screenshot(path=shots / "live.png", full_page=True)
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Start")).to_be_visible()
        page.context.browser.close()
    assert not wrong


def open_page(playwright: Any, address: str) -> tuple[Any, list[str]]:
    """The page in a browser with a camera, and the list of its script errors."""
    from playwright.sync_api import expect

    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", *camera])
    page = browser.new_page(viewport={"width": 1280, "height": 1250}, permissions=["camera"])
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.set_default_timeout(90_000)
    expect.set_options(timeout=90_000)
    page.goto(address)
    return page, wrong


def downloaded(page: Any, button: str) -> Path:
    """The file behind a button."""
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path())


def upload(page: Any, path: Path) -> None:
    """Adds a file to those uploaded."""
    page.locator('input[type="file"]').first.set_input_files(path)


def pick(page: Any, label: str) -> None:
    """Also picks a model at the side."""
    page.get_by_test_id("stSidebar").get_by_role("combobox").first.click()
    page.get_by_role("option", name=label).click()
    page.keyboard.press("Escape")
