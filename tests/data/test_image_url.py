"""Downloads of images: from servers on this machine, which only `allow_private` permits, and which break each limit."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from src.common.errors import UserError
from src.data import image_url
from src.data.image_url import download_image, is_public

CONTENT = b"\xff\xd8 content of a photo"


class Site(BaseHTTPRequestHandler):
    """A photo at /photo.jpg, and pages that break a limit each."""

    def do_GET(self) -> None:
        if self.path == "/photo.jpg":
            self.answer(200, {"Content-Length": len(CONTENT)}, CONTENT)
        elif self.path.startswith("/to/"):
            self.answer(302, {"Location": self.path.removeprefix("/to/")})
        elif self.path == "/loop":
            self.answer(302, {"Location": "/loop"})
        elif self.path == "/drip":
            self.answer(200, {}, *[b"x"] * 50)
        elif self.path == "/header-drip":
            self.send(*[bytes([byte]) for byte in b"HTTP/1.1 200 OK"])
        elif self.path == "/headers":
            self.send(b"HTTP/1.1 200 OK\r\n", *[b"a: b\r\n" * 1000] * 100)
        elif self.path == "/declared":
            self.answer(200, {"Content-Length": 10**12})
        elif self.path == "/endless":
            self.answer(200, {}, *[b"x" * 600] * 2)
        else:
            self.answer(404, {})

    def answer(self, status: int, headers: dict[str, object], *parts: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.send(*parts)

    def send(self, *parts: bytes) -> None:
        """A long row of parts is sent slowly, and until the other side hangs up."""
        with suppress(OSError):
            for part in parts:
                self.wfile.write(part)
                time.sleep(0.1 if len(parts) > 2 else 0)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_downloads_and_follows_redirects(site: str) -> None:
    assert download_image(f"{site}/photo.jpg", allow_private=True) == CONTENT
    assert download_image(f"{site}/to/{site}/photo.jpg", allow_private=True) == CONTENT


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing.jpg", "404 Not Found"),
        ("/loop", "redirects more than 5 times"),
        ("/to/file:///etc/passwd", "no http or https address"),
        ("/drip", "more than 0.5 s"),
        ("/header-drip", "more than 0.5 s"),
        ("/headers", "header"),
        ("/declared", "more than 0.001 MB"),
        ("/endless", "more than 0.001 MB"),
    ],
)
def test_breaking_a_limit_is_one_line_that_names_the_url(
    site: str, path: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_url, "SECONDS", 0.5)
    monkeypatch.setattr(image_url, "MAX_BYTES", 1000)
    with pytest.raises(UserError) as caught:
        download_image(site + path, allow_private=True)
    message = str(caught.value)
    assert message.startswith(f"{site}{path}: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]"])
def test_this_machine_is_refused_by_any_name(site: str, host: str) -> None:
    with pytest.raises(UserError, match="private or reserved|is no http"):
        download_image(f"http://{host}:{site.rpartition(':')[2]}/photo.jpg")


def test_a_redirect_to_a_private_address_is_refused(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_url, "is_public", lambda address: address == "127.0.0.1")
    assert download_image(f"{site}/photo.jpg") == CONTENT
    with pytest.raises(UserError, match=r"127\.0\.0\.2 is a private"):
        download_image(f"{site}/to/{site.replace('127.0.0.1', '127.0.0.2')}/photo.jpg")


@pytest.mark.parametrize("order", [("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1")])
def test_a_name_that_changes_its_address_reaches_public_ones_alone(
    order: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each name, every look-up gives other addresses; the connection goes to one that was checked, or to none."""
    reached: list[str] = []

    class Listener(Site):
        def do_GET(self) -> None:
            reached.append(self.connection.getsockname()[0])
            super().do_GET()

    answers = iter([*order] * 10)
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, port, *__, **___: [ipv4(next(answers), port)])
    monkeypatch.setattr(image_url, "is_public", lambda address: address == "127.0.0.1")
    with ThreadingHTTPServer(("0.0.0.0", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        photo = f"http://second.example:{server.server_port}/photo.jpg"
        with pytest.raises(UserError, match=r"127\.0\.0\.2 is a private"):
            download_image(f"http://first.example:{server.server_port}/to/{photo}")
        server.shutdown()
    assert reached == ["127.0.0.1"] * (order[0] == "127.0.0.1")


def ipv4(address: str, port: int) -> tuple:
    """An entry of getaddrinfo."""
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)


@pytest.mark.parametrize(
    "url", ["ftp://example.org/a.jpg", "file:///etc/passwd", "http://", "http://[::1", "https://a b"]
)
def test_an_address_of_another_kind_is_one_line(url: str) -> None:
    with pytest.raises(UserError, match="save the photo as a file"):
        download_image(url)


def test_public_addresses_are_those_of_the_internet() -> None:
    private = "10.0.0.1 172.16.0.1 192.168.1.1 127.0.0.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 240.0.0.1"
    private += " 192.0.2.1 255.255.255.255 ::1 :: fe80::1 fe80::1%eth0 fc00::1 fec0::1 ff02::1 2001:db8::1 ::7f00:1"
    private += " ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::a00:1 2002:7f00:1::1 2001:0:4136:e378::1"
    public = "8.8.8.8 93.184.216.34 2001:4860:4860::8888 ::ffff:8.8.8.8 64:ff9b::808:808"
    assert [address for address in private.split() if is_public(address)] == []
    assert [address for address in public.split() if not is_public(address)] == []
