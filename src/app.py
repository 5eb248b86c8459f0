"""python -m src.app: a page to try models on photos, in the browser, on this machine.
Held by tests/serving/test_page.py.
"""

import os
from collections.abc import Sequence
from typing import NoReturn

from src.common.errors import run_command
from src.config.cli import CommandParser, make_parser
from src.config.schema import Above0, Count
from src.serving.access_token import VARIABLE, add_address_options, read_token, require_token
from src.serving.page_server import PageOptions, check_port, streamlit_command
from src.tracking.run_group import group_members


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Checks the command line and becomes the page's server until Ctrl-C.

    Raises:
        UserError: the port is taken, a named model does not exist, or the address needs a token.
    """
    parsed = make_options().parse_args(args)
    limits = (parsed.photos, parsed.megabytes, parsed.megapixels, parsed.zip_megabytes, parsed.at_once)
    options = PageOptions(tuple(parsed.model), tuple(parsed.folder), *limits)
    for name in options.models:
        group_members(name)
    check_port(parsed.host, parsed.port)
    require_token(parsed.host, token := read_token(parsed.token))
    print(f"page: http://{parsed.host}:{parsed.port} (Ctrl-C ends it)", flush=True)
    command = streamlit_command(parsed.host, parsed.port, options)
    os.execve(command[0], command, {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", VARIABLE: token})


def make_options() -> CommandParser:
    """The command's options."""
    defaults = PageOptions()
    parser = make_parser("app", "A page to try models on photos; other machines reach it only with --host.", False)
    about = "model folders or run names that are listed before all other runs"
    parser.add_argument("--model", type=str, nargs="+", default=[], help=about)
    about = "folders whose photos every visitor may see"
    parser.add_argument("--folder", type=str, nargs="+", default=[*defaults.folders], help=about)
    add_address_options(parser, 8501)
    parser.add_argument("--photos", type=Count, default=defaults.photos, help="most photos in one upload")
    parser.add_argument("--megabytes", type=Above0, default=defaults.megabytes, help="most megabytes of a photo")
    parser.add_argument("--megapixels", type=Above0, default=defaults.megapixels, help="most million pixels of a photo")
    parser.add_argument("--zip-megabytes", type=Above0, default=defaults.zip_megabytes, help="most megabytes of a zip")
    parser.add_argument("--at-once", type=Count, default=defaults.at_once, help="predictions that run at once")
    return parser


if __name__ == "__main__":
    run_command(main)
