"""The page's server: Streamlit's command line, its options, its port."""

import json
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.common.errors import UserError, one_line

PAGE = Path(__file__).parent / "page" / "main.py"


@dataclass(frozen=True)
class PageOptions:
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
    def from_json(text: str) -> "PageOptions":
        """The options that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return PageOptions(**{**values, "models": tuple(values["models"]), "folders": tuple(values["folders"])})


def check_port(host: str, port: int) -> None:
    """Raises UserError where nothing can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, UnicodeError) as error:  # the latter of a name that cannot be a host's, such as a..b
        why = one_line(error.strerror if isinstance(error, OSError) else error)
        raise UserError(f"{host}:{port}: cannot listen there ({why}); choose another --host or --port") from error


def streamlit_command(host: str, port: int, options: PageOptions) -> list[str]:
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
