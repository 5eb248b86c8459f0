"""The page's server: its options, its port, and its process, which is Streamlit's command with the page's packages
imported while the visitor opens the browser. Held by tests/serving/test_page.py.
"""

import json
import socket
import sys
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from src.common.errors import UserError, one_line

PAGE = Path(__file__).parent / "page" / "main.py"


@dataclass(frozen=True)
class PageOptions:
    """Models that are listed first, folders whose photos (also those below) every visitor may see, and limits: photos
    of one upload, size of a photo and its file, size of a zip of photos, predictions that run at once for all visitors
    in sum.
    """

    models: tuple[str, ...] = ()
    folders: tuple[str, ...] = ("data",)
    photos: int = 24
    megabytes: float = 20.0
    megapixels: float = 50.0
    zip_megabytes: float = 200.0
    at_once: int = 4

    def to_json(self) -> str:
        """The options as one argument of a command line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "PageOptions":
        """The options that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return PageOptions(**{**values, "models": tuple(values["models"]), "folders": tuple(values["folders"])})


def check_port(host: str, port: int) -> None:
    """Raises UserError where no server can listen on the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, UnicodeError) as error:  # UnicodeError: not a host name, such as a..b
        reason = one_line(error.strerror if isinstance(error, OSError) else error)
        raise UserError(f"{host}:{port}: cannot listen there ({reason}); choose another --host or --port") from error


def streamlit_command(host: str, port: int, options: PageOptions) -> list[str]:
    """The command of the page's process: without telemetry and file watching, uploads up to the limit."""
    settings = {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.maxUploadSize": whole_megabytes(max(options.megabytes, options.zip_megabytes)),
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "src.serving.page_server", "run", str(PAGE), *flags, "--", options.to_json()]


def whole_megabytes(size: float) -> int:
    """A size for Streamlit, which takes whole megabytes."""
    return max(1, int(size))


def run_streamlit() -> None:
    """Streamlit's command line, with the page's packages imported beside it."""
    from streamlit.web.cli import main  # absent without the extra `app`

    Thread(target=import_module, args=("src.serving.page.tabs",), daemon=True).start()
    main()


if __name__ == "__main__":
    run_streamlit()
