"""The page: run by Streamlit's own test harness, and, marked browser, used in a real browser."""

import csv
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from src.app import main
from src.common.errors import UserError
from src.inference.predictor import BeamCaption
from src.serving.page.attention_view import attention_maps
from src.serving.page.mos_scale import histogram_bars
from src.serving.page_server import PageOptions, streamlit_command
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


def texts(page: AppTest) -> str:
    """All that the page says, in one string."""
    bodies = [
        element.value for kind in ("text", "markdown", "error", "warning", "info") for element in getattr(page, kind)
    ]
    return "\n".join(bodies) + "\n".join(element.proto.body for element in page.get("html"))


def test_a_photo_gets_mos_beam_and_time_of_each_model(page: AppTest, photo: bytes, models: tuple[str, str]) -> None:
    run(page).file_uploader[0].set_value(("a.jpg", photo, "image/jpeg"))
    run(page)
    assert len(page.radio) == 1
    assert len(page.radio[0].options) == 2  # the beam, as wide as the model's own
    assert len(page.get("iframe")) == 1
    assert "mos " in texts(page)
    assert "% of the training photos" in texts(page)
    assert any(element.value.endswith(" ms") for element in page.caption)
    first = page.radio[0].options[0]
    page.multiselect[0].set_value(["first", "second"])
    page.slider[0].set_value(5)
    run(page)
    assert [len(radio.options) for radio in page.radio] == [5, 5]
    page.multiselect[0].set_value(["second"])
    run(page)
    assert page.radio[0].options[0] != first


def test_a_model_that_is_named_is_offered_once(elsewhere: Path) -> None:
    make_model(elsewhere / "runs" / "demo" / "model")
    make_model(elsewhere / "runs" / "other" / "model")
    page = AppTest.from_function(script, args=(PageOptions(("runs/demo",)),), default_timeout=60)
    assert run(page).multiselect[0].options == ["demo", "other"]


def test_copies_of_one_photo_are_answered_each(page: AppTest, photo: bytes) -> None:
    run(page).file_uploader[0].set_value([(name, photo, "image/jpeg") for name in ("a.jpg", "b.jpg")])
    run(page)
    assert len(page.radio) == 2
    assert {"a.jpg", "b.jpg"} <= set(texts(page).split("\n"))


def test_bad_uploads_are_one_line_each(page: AppTest, photo: bytes) -> None:
    bad = {"../../etc/passwd.jpg": b"no photo", "short.jpg": photo[: len(photo) // 2], "none.jpg": b""}
    files = [(name, data, "image/jpeg") for name, data in bad.items()]
    run(page).file_uploader[0].set_value([*files, ("good.jpg", photo, "image/jpeg")])
    run(page)
    assert len(page.error) == 3
    assert all("\n" not in error.value and error.value.startswith("This photo ") for error in page.error)
    assert len(page.radio) == 1  # the good one is answered all the same


def test_the_demo_has_photos_of_its_own(page: AppTest) -> None:
    run(page).toggle[0].set_value(True)
    run(page)
    assert len(page.radio) == 4
    assert len(page.get("iframe")) == 4


def test_a_folder_becomes_a_table(page: AppTest) -> None:
    run(page)
    folder = next(one for one in page.selectbox if one.label == "Folder")
    assert folder.options == ["open", r"open/\udcc7\udcd1"]  # no other folder can be asked for
    next(one for one in page.button if one.label == "Predict").click()
    run(page)
    table = page.dataframe[0].value
    assert table["photo"].tolist() == ["0.jpg", "1.jpg", "2.jpg", "broken.jpg", r"\udcc7\udcd1/\udcc7\udcd1.jpg"]
    assert table["mos"].notna().tolist() == [True, True, True, False, True]
    assert table["note"].tolist()[3] == "is no photo"
    rows = list(csv.DictReader(StringIO(table.to_csv(index=False))))
    assert rows[0]["caption"] == table["caption"][0]


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
    run(page)
    listed, scores, differing = (one.value for one in page.dataframe)
    assert set(listed["run"]) == {"one", "two"}
    assert sorted(scores.loc["plcc"].tolist()) == [0.5, 0.7]
    assert differing.index.tolist() == ["train.lr"]  # what they share is not shown


def test_without_any_model_the_page_says_what_to_do(elsewhere: Path) -> None:
    page = AppTest.from_function(script, args=(PageOptions(),), default_timeout=60)
    assert "src.train" in run(page).error[0].value
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


def test_the_server_listens_on_this_machine_and_tells_nobody() -> None:
    options = PageOptions(("a", "b"), photos=3)
    assert PageOptions.from_json(options.to_json()) == options
    command = " ".join(streamlit_command("127.0.0.1", 8501, options))
    assert "--server.address 127.0.0.1" in command
    assert "--browser.gatherUsageStats false" in command
    assert "--server.maxUploadSize 20 " in command
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
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1250})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.set_default_timeout(90_000)
        expect.set_options(timeout=90_000)
        page.goto(address)
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
        page.get_by_role("tab", name="Folder").click()
        page.get_by_role("button", name="Predict", exact=True).click()
        expect(page.get_by_text("Download as CSV")).to_be_visible()
        page.wait_for_timeout(500)
        page.screenshot(path=shots / "folder.png")
        with page.expect_download() as download:
            page.get_by_text("Download as CSV").click()
        rows = list(csv.DictReader(download.value.path().open(encoding="utf-8")))
        assert [row["photo"] for row in rows] == ["0.jpg", "1.jpg", "2.jpg"]
        browser.close()
    assert not wrong


def upload(page: Any, path: Path) -> None:
    """Adds a file to those uploaded."""
    page.locator('input[type="file"]').first.set_input_files(path)


def pick(page: Any, label: str) -> None:
    """Also picks a model at the side."""
    page.get_by_test_id("stSidebar").get_by_role("combobox").first.click()
    page.get_by_role("option", name=label).click()
    page.keyboard.press("Escape")
