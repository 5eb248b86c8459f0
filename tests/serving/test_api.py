"""The HTTP API, with a tiny model behind it, spoken to over HTTP."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from src.common.errors import UserError
from src.inference.predict_options import PredictOptions
from src.prepare import main as prepare
from src.serve import make_options
from src.serving.api import make_app
from src.serving.limits import RequestLimits
from src.serving.server import load_served_model, load_served_models
from tests.servers import free_port, wait_until_up
from tests.tiny import make_model, tiny_config, write_photo
from tests.training.test_run import make_data


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("run") / "model", mos_percentiles=[2.0, 5.0, 9.0])


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[TestClient]:
    with TestClient(
        make_app({"tiny": load_served_model(str(model))}, RequestLimits(images=3, queue=4, megabytes=0.5))
    ) as client:
        yield client


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("photo") / "x.jpg"
    write_photo(path, 1)
    return path.read_bytes()


def send(client: TestClient, *files: bytes, **query: int | str) -> httpx.Response:
    photos = [("photos", (f"../{i}.jpg", data)) for i, data in enumerate(files)]
    return client.post("/predict", files=photos, params=query)


def test_photos_are_predicted_in_their_order(client: TestClient, photo: bytes, model: Path) -> None:
    response = send(client, photo, b"no photo", beams=2)
    assert response.status_code == 200
    first, second = response.json()["predictions"]
    served = load_served_model(str(model))
    expected = served.predictor.predict_bytes([photo], served.options)[0]
    assert first["mos"] == pytest.approx(expected.mos, abs=1e-4)  # type: ignore[union-attr]
    assert [one["text"] for one in first["captions"]] == [one.text for one in expected.captions]  # type: ignore[union-attr]
    assert 0 <= first["place"] <= 1
    assert first["seconds"] > 0
    assert second == {"name": "../1.jpg", "error": "is no photo"}


def test_beam_and_attention_are_of_the_request(client: TestClient, photo: bytes, model: Path) -> None:
    """Requests of other queries that wait together change nothing of each other's answers."""
    narrow = send(client, photo, beam=1, beams=9).json()["predictions"][0]
    wide = send(client, photo, beam=5, beams=9, attention="true").json()["predictions"][0]
    assert [len(one["captions"]) for one in (narrow, wide)] == [1, 5]
    assert narrow["captions"][0]["attention"] is None
    served = load_served_model(str(model))
    ask = PredictOptions(replace(served.options.generation, method="beam", beam=5), attention=True)
    for got, one in zip(wide["captions"], served.predictor.predict_bytes([photo], ask)[0].captions, strict=True):  # type: ignore[union-attr]
        assert (got["text"], got["attention"]["words"]) == (one.text, one.words)
        np.testing.assert_allclose(got["attention"]["weights"], one.attention[:-1], atol=1e-4)
    with ThreadPoolExecutor(3) as pool:
        queries = [{"beam": 1}, {"beam": 5, "attention": "true"}, {"beam": 1}]
        found = list(pool.map(lambda query: send(client, photo, beams=9, **query).json()["predictions"][0], queries))
    for one, alone in zip(found, (narrow, wide, narrow), strict=True):
        assert [two["text"] for two in one["captions"]] == [two["text"] for two in alone["captions"]]
        assert (one["captions"][0]["attention"] is None) == (alone is narrow)
    assert send(client, photo, beam=21).status_code == 422


def test_several_models_predict_by_their_names(model: Path, tmp_path: Path, photo: bytes) -> None:
    other = make_model(tmp_path / "second" / "model", tiny_config(captions=False))
    styled = make_model(tmp_path / "third", styles=("one", "two"))
    first = model.parent.name
    options = make_options().parse_args(["--model", str(model), str(other)])
    models = load_served_models(options) | {"third": load_served_model(str(styled), style="one")}
    with TestClient(make_app(models)) as client:
        known = client.get("/models").json()
        assert [one["name"] for one in known] == [first, "second", "third"]
        assert [one["captions"] for one in known] == [True, False, True]
        assert known[2]["styles"] == ["one", "two"]
        assert send(client, photo).json()["predictions"][0]["captions"]
        assert send(client, photo, model="second", attention="true").json()["predictions"][0]["captions"] == []
        assert send(client, photo, model="third", style="two").json()["predictions"][0]["captions"]
        assert send(client, photo, model="fourth").json()["error"] == (
            f"model fourth: there are {first}, second, third; choose one of these"
        )
        assert "third has one, two" in send(client, photo, model="third", style="three").json()["error"]
        assert "second has none" in send(client, photo, model="second", style="one").json()["error"]
    with pytest.raises(UserError, match="two models are called second"):
        load_served_models(make_options().parse_args(["--model", str(other), str(other.parent)]))


def test_health_readiness_and_openapi(client: TestClient) -> None:
    assert client.get("/health").status_code == 200
    end = time.monotonic() + 120
    while client.get("/ready").status_code == 503 and time.monotonic() < end:
        time.sleep(0.05)
    assert client.get("/ready").json() == {"status": "ready"}
    assert "/predict" in client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_pages_of_docs_need_no_other_server(client: TestClient, page: str) -> None:
    """On a machine without the internet a page that asks one for its scripts stays blank."""
    told = client.get(page).text
    parts = re.findall(r"""<(?:link|script)[^>]*? (?:href|src)=["']([^"']+)""", told)
    assert len(parts) > 1
    assert all(part.startswith("/") and client.get(part).status_code == 200 for part in parts)


def test_too_much_is_refused_and_counted(client: TestClient, photo: bytes) -> None:
    assert send(client, *[photo] * 4).status_code == 413
    assert send(client, b"x" * 600_000).status_code == 413
    unmeasured = client.post(
        "/predict",
        content=(b"x" * 100_000 for _ in range(7)),
        headers={"content-type": "multipart/form-data; boundary=B"},
    )
    assert unmeasured.status_code == 413
    assert client.post("/predict").status_code == 422
    assert send(client, photo).status_code == 200
    told = client.get("/metrics").text
    assert 'requests_total{status="413"} 3.0' in told
    assert 'photos_total{outcome="predicted"}' in told
    assert "batch_seconds_bucket" in told


def test_a_full_queue_is_refused_with_429(model: Path, photo: bytes) -> None:
    served = load_served_model(str(model))
    with TestClient(make_app({"tiny": served}, RequestLimits(images=2, queue=2))) as client:
        with served.predictor.lock:  # the model is busy
            threads = [threading.Thread(target=send, args=(client, photo, photo)) for _ in range(1)]
            for thread in threads:
                thread.start()
            end = time.monotonic() + 120
            while "waiting_photos 2.0" not in client.get("/metrics").text and time.monotonic() < end:
                time.sleep(0.02)
            refused = send(client, photo)
        for thread in threads:
            thread.join()
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert send(client, photo).status_code == 200  # there is room again


def test_an_unforeseen_error_is_counted_as_500(
    client: TestClient, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("src.serving.api.predict_requests", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        send(client, photo)
    assert 'requests_total{status="500"} 1.0' in client.get("/metrics").text


@pytest.fixture
def address(model: Path, tmp_path: Path) -> Iterator[str]:
    """The API as the command serves it."""
    port = free_port()
    command = [sys.executable, "-m", "src.serve", "--model", str(model), "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        wait_until_up(f"http://127.0.0.1:{port}/ready", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_the_command_serves_this_machine_alone(address: str, photo: bytes) -> None:
    found = httpx.post(f"{address}/predict", files={"photos": ("x.jpg", photo)}, timeout=60).json()["predictions"]
    assert found[0]["captions"][0]["text"]
    listening = subprocess.run(["ss", "-ltn"], capture_output=True, text=True).stdout
    assert not listening or address.removeprefix("http://") in listening


@pytest.mark.browser
def test_the_page_of_docs_takes_a_photo_and_shows_its_caption(address: str, photo: bytes) -> None:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{address}/docs")
        page.click("text=/predict")
        page.click("text=Try it out")
        page.set_input_files("input[type=file]", {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": photo})
        page.click("text=Execute")
        expect(page.locator(".live-responses-table")).to_contain_text('"captions"', timeout=90_000)
        browser.close()


def test_a_request_may_choose_captions_by_training_captions(elsewhere: Path, photo: bytes) -> None:
    make_data(elsewhere / "data")
    folder = make_model(elsewhere / "run" / "model")
    with TestClient(make_app({"tiny": load_served_model(str(folder))})) as client:
        assert "rerank: tiny has no training captions" in send(client, photo, rerank="true").json()["error"]
        beam = send(client, photo, beams=2).json()["predictions"][0]["captions"]
        prepare(["neighbours", "--model", str(folder)])
        chosen = send(client, photo, beams=2, rerank="true").json()["predictions"][0]["captions"]
        assert [one["text"] for one in chosen] != [one["text"] for one in beam]
        assert send(client, photo, beams=2).json()["predictions"][0]["captions"] == beam
