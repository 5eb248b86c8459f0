"""python -m src.app: a page to try models on photos, in the browser, on this machine."""

import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from src.command import Parser, make_parser
from src.config import Above0, Count, Port
from src.errors import UserError, one_line, run_command

PAGE = Path(__file__).parent / "page" / "main.py"


@dataclass(frozen=True)
class Options:
    """What the page offers and takes.

    Attributes:
        models: names of models, offered first.
        folders: folders whose photos, and those of folders below, anybody who opens the page may look at.
        photos: most photos at once.
        megabytes: of a photo's file.
        megapixels: of a photo.
        at_once: photos answered at once, for all visitors together; who waits too long is asked to come again.
    """

    models: tuple[str, ...] = ()
    folders: tuple[str, ...] = ("data",)
    photos: int = 24
    megabytes: float = 20.0
    megapixels: float = 50.0
    at_once: int = 4

    def to_json(self) -> str:
        """The options as one word of a command line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Options":
        """The options that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return Options(**{**values, "models": tuple(values["models"]), "folders": tuple(values["folders"])})


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Checks the command line and becomes the page's server, until Ctrl-C.

    Raises:
        UserError: the port is taken, or there is no model of a name that is given.
    """
    from src.runs import find_model

    parsed = make_options().parse_args(args)
    rest = (parsed.photos, parsed.megabytes, parsed.megapixels, parsed.at_once)
    options = Options(tuple(parsed.model), tuple(parsed.folder), *rest)
    check_port(parsed.host, parsed.port)
    for name in options.models:
        find_model(name)
    print(f"page: http://{parsed.host}:{parsed.port} (Ctrl-C ends it)", flush=True)
    command = server_command(parsed.host, parsed.port, options)
    os.execve(command[0], command, {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"})


def make_options() -> Parser:
    """The command's options."""
    own = Options()
    parser = make_parser("app", "A page to try models on photos, on this machine only unless --host says so.", False)
    about = "model folders or run names, offered ahead of all other runs"
    parser.add_argument("--model", type=str, nargs="+", default=[], help=about)
    about = "folders whose photos anybody who opens the page may look at"
    parser.add_argument("--folder", type=str, nargs="+", default=[*own.folders], help=about)
    parser.add_argument("--host", type=str, default="127.0.0.1", help="address to listen on; there is no login")
    parser.add_argument("--port", type=Port, default=8501, help="port to listen on")
    parser.add_argument("--photos", type=Count, default=own.photos, help="most photos at once")
    parser.add_argument("--megabytes", type=Above0, default=own.megabytes, help="most megabytes of a photo")
    parser.add_argument("--megapixels", type=Above0, default=own.megapixels, help="most million pixels of a photo")
    parser.add_argument("--at-once", type=Count, default=own.at_once, help="photos answered at once, for all visitors")
    return parser


def check_port(host: str, port: int) -> None:
    """Raises UserError where nothing can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, UnicodeError) as error:  # the latter of a name that cannot be a host's, such as a..b
        why = one_line(error.strerror if isinstance(error, OSError) else error)
        raise UserError(f"{host}:{port}: cannot listen there ({why}); choose another --host or --port") from error


def server_command(host: str, port: int, options: Options) -> list[str]:
    """Streamlit's command: no telemetry, no watching of files, uploads up to the limit."""
    settings = {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.maxUploadSize": max(1, int(options.megabytes)),
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "streamlit", "run", str(PAGE), *flags, "--", options.to_json()]


if __name__ == "__main__":
    run_command(main)
