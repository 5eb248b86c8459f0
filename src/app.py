"""python -m src.app: a page to try models on photos, in the browser, on this machine."""

import os
from collections.abc import Sequence
from typing import NoReturn

from src.common.errors import run_command
from src.config.loader import CommandParser, make_parser
from src.config.schema import Above0, Count, Port
from src.serving.page_server import PageOptions, check_port, streamlit_command


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Checks the command line and becomes the page's server, until Ctrl-C.

    Raises:
        UserError: the port is taken, or there is no model of a name that is given.
    """
    from src.tracking.run_registry import find_model

    parsed = make_options().parse_args(args)
    rest = (parsed.photos, parsed.megabytes, parsed.megapixels, parsed.at_once)
    options = PageOptions(tuple(parsed.model), tuple(parsed.folder), *rest)
    check_port(parsed.host, parsed.port)
    for name in options.models:
        find_model(name)
    print(f"page: http://{parsed.host}:{parsed.port} (Ctrl-C ends it)", flush=True)
    command = streamlit_command(parsed.host, parsed.port, options)
    os.execve(command[0], command, {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"})


def make_options() -> CommandParser:
    """The command's options."""
    own = PageOptions()
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


if __name__ == "__main__":
    run_command(main)
