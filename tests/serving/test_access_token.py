"""The token of the API and the page: where one is needed, how it is compared, and that nothing prints it."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from src.app import main as app
from src.app import make_options as app_options
from src.common.errors import UserError
from src.serve import main as serve
from src.serve import make_options
from src.serving.access_token import VARIABLE, is_loopback, read_token, require_token, token_matches
from src.serving.api import make_app
from src.serving.server import load_served_model
from tests.servers import free_port
from tests.tiny import make_model, write_photo

TOKEN = "Top-secret_0123456789~/+="


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_model(tmp_path_factory.mktemp("token") / "model"))


@pytest.fixture(scope="module")
def address(model: str) -> Iterator[str]:
    """The API behind a token, as uvicorn serves it."""
    config = uvicorn.Config(make_app({"tiny": load_served_model(model)}, token=TOKEN), port=free_port())
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while not server.started and time.monotonic() < end:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{config.port}"
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def photo(tmp_path: Path) -> bytes:
    write_photo(tmp_path / "photo.jpg", 1)
    return (tmp_path / "photo.jpg").read_bytes()


def test_every_path_but_health_needs_the_token(address: str) -> None:
    paths = ["/predict", "/models", "/ready", "/metrics", "/docs", "/redoc", "/openapi.json", "/none", "//health", "/"]
    for path in paths:
        answer = httpx.get(address + path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        assert answer.json()["error"].startswith("the token is missing or wrong")
        assert TOKEN not in answer.text
    assert httpx.get(f"{address}/health").json() == {"status": "ok"}
    known = httpx.get(f"{address}/models", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert [one["name"] for one in known] == ["tiny"]


def test_a_photo_is_predicted_with_the_token_alone(
    address: str, photo: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = ["", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \xe9"]
    for given in wrong:
        headers = {"Authorization": given.encode("latin-1")}
        assert httpx.post(f"{address}/predict", files={"photos": photo}, headers=headers).status_code == 401, given
    for given in (f"Bearer {TOKEN}", f"bearer {TOKEN}"):
        answer = httpx.post(f"{address}/predict", files={"photos": photo}, headers={"Authorization": given}, timeout=60)
        assert answer.json()["predictions"][0]["captions"]
    printed = capfd.readouterr()
    assert TOKEN not in caplog.text + printed.out + printed.err


def test_other_machines_are_served_with_a_token_alone(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for host in ("0.0.0.0", "::"):
        for command, options in ((serve, ["--model", model]), (app, [])):
            with pytest.raises(UserError, match=f"^--host {host}: other machines can reach it; set SRC_TOKEN "):
                command([*options, "--host", host, "--port", str(free_port())])
    assert not capsys.readouterr().out
    require_token("0.0.0.0", TOKEN)
    require_token("localhost", "")


def test_loopback_is_known_by_any_name() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.8.9.1", "localhost", "::1"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "::", "0", "192.168.0.1", "8.8.8.8", "a..b", "none.invalid"]))


def test_the_option_goes_before_the_variable_and_neither_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "from-the-variable")
    assert read_token() == "from-the-variable"
    for parser, model in ((make_options(), ["--model", "x"]), (app_options(), [])):
        options = parser.parse_args([*model, f"--token={TOKEN}"])
        assert read_token(options.token) == TOKEN
        assert read_token(parser.parse_args(model).token) == "from-the-variable"
        shown = f"{options} {options.as_dict()} {parser.dump(options)} {parser.format_help()}"
        assert TOKEN not in shown
        assert "from-the-variable" not in shown
        with pytest.raises(UserError) as caught:
            parser.parse_args([*model, "--tokn", TOKEN])
        assert TOKEN not in str(caught.value)
    for bad in ("two words", "new\nline", "ümlaut", "a=b"):
        monkeypatch.setenv(VARIABLE, bad)
        with pytest.raises(UserError, match="^the variable SRC_TOKEN: a token has letters") as caught:
            read_token()
        assert bad not in str(caught.value)
    monkeypatch.setenv(VARIABLE, "")
    assert read_token() == ""


def test_only_the_whole_token_matches() -> None:
    assert token_matches(TOKEN.encode(), TOKEN)
    assert not any(token_matches(given, TOKEN) for given in (b"", TOKEN[:-1].encode(), TOKEN.encode() * 2, b"\xff"))
