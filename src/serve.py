"""python -m src.serve: models as an HTTP API. POST photos to /answer, JSON comes back; /docs describes it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from src.common.errors import run_command
from src.config.loader import CommandParser, make_parser
from src.config.schema import Above0, Count, Port
from src.serving.page_server import check_port
from src.serving.server import load_served_models, make_request_limits

if TYPE_CHECKING:
    pass


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, loads the models and serves until Ctrl-C.

    Raises:
        UserError: the port is taken, or as `make_request_limits` and `load_served_models`.
    """
    import uvicorn

    from src.serving.api import make_app

    options = make_options().parse_args(args)
    bounds = make_request_limits(options)
    check_port(options.host, options.port)
    app = make_app(load_served_models(options), bounds)
    print(f"answers: http://{options.host}:{options.port}/docs (Ctrl-C ends it)", flush=True)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
    return 0


def make_options() -> CommandParser:
    """The command's options."""
    parser = make_parser("serve", "Answers photos over HTTP, on this machine only unless --host says so.", config=False)
    about = "model folders, run names, run ids, or best; the first answers where a request names none"
    parser.add_argument("--model", type=str, nargs="+", required=True, help=about)
    about = "style of the captions, by data set; default: the challenge's, where the model knows it"
    parser.add_argument("--style", type=str, default="", help=about)
    parser.add_argument("--host", type=str, default="127.0.0.1", help="address to listen on; there is no login")
    parser.add_argument("--port", type=Port, default=8000, help="port to listen on")
    parser.add_argument("--photos", type=Count, default=16, help="most photos of a request")
    parser.add_argument("--batch", type=Count, default=8, help="photos answered together")
    parser.add_argument("--queue", type=Count, default=64, help="photos that may wait; more are refused with 429")
    parser.add_argument("--megabytes", type=Above0, default=50.0, help="most megabytes of a request")
    parser.add_argument("--photo-megabytes", type=Above0, default=20.0, help="most megabytes of a photo")
    parser.add_argument("--photo-megapixels", type=Above0, default=50.0, help="most million pixels of a photo")
    return parser


if __name__ == "__main__":
    run_command(main)
