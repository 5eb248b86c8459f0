"""python -m src.serve: models as an HTTP API. POST photos to /predict, JSON comes back; /docs describes it."""

from collections.abc import Sequence

from src.common.errors import run_command
from src.config.cli import CommandParser, make_parser
from src.config.schema import Above0, Count
from src.serving.access_token import add_address_options
from src.tracking.run_group import group_members


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, loads the models and serves until Ctrl-C."""
    options = make_options().parse_args(args)
    for name in options.model:
        group_members(name)  # before torch loads, which takes seconds

    from src.serving.server import serve_api

    serve_api(options)
    return 0


def make_options() -> CommandParser:
    """The command's options."""
    about = "Predicts photos over HTTP, on this machine only unless --host says so."
    parser = make_parser("serve", about, config=False)
    about = "model folders, run names, run ids, or best; the first predicts where a request names none"
    parser.add_argument("--model", type=str, nargs="+", required=True, help=about)
    about = "style of the captions, by data set; default: the challenge's, where the model knows it"
    parser.add_argument("--style", type=str, default="", help=about)
    add_address_options(parser, 8000)
    parser.add_argument("--photos", type=Count, default=16, help="most photos of a request")
    parser.add_argument("--batch", type=Count, default=8, help="photos predicted in one batch")
    parser.add_argument("--queue", type=Count, default=64, help="photos that may wait; more are refused with 429")
    parser.add_argument("--megabytes", type=Above0, default=50.0, help="most megabytes of a request")
    parser.add_argument("--photo-megabytes", type=Above0, default=20.0, help="most megabytes of a photo")
    parser.add_argument("--photo-megapixels", type=Above0, default=50.0, help="most million pixels of a photo")
    return parser


if __name__ == "__main__":
    run_command(main)
