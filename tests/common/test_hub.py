"""The check of the network before a download, against a real server on this machine."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from src.common.errors import UserError
from src.common.hub import hub_address, require_network


class Handler(BaseHTTPRequestHandler):
    """/weights is there, nothing else is."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/weights" else 404)
        self.end_headers()

    def log_message(self, *values: object) -> None:
        """Writes nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server."""
    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_server_that_answers_is_enough(server: str) -> None:
    require_network(f"{server}/weights", "net", "use a file")
    require_network(f"{server}/absent", "net", "use a file")


def test_an_address_without_a_server_is_refused() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(
            UserError, match=rf"weights of net are at {address}, which cannot be .*refused.*; use a file"
        ):
            require_network(address, "net", "use a file")


@pytest.mark.parametrize("value", ["1", "true", "YES", "On"])
def test_offline_mode_is_refused_without_a_request(value: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(UserError, match=r"^HF_HUB_OFFLINE is set and the weights of net are not .*; use a file$"):
        require_network(f"{server}/weights", "net", "use a file")


def test_the_hub_may_be_a_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_address() == "https://huggingface.co"
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example")
    assert hub_address() == "http://mirror.example"
