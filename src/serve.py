"""python -m src.serve: models as an HTTP API. POST photos to /answer, JSON comes back; /docs describes it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from src.app import check_port
from src.command import Parser, make_parser
from src.config import Above0, Count, Port
from src.errors import UserError, run_command

if TYPE_CHECKING:
    from src.api import Served
    from src.guard import Bounds


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, loads the models and serves until Ctrl-C.

    Raises:
        UserError: the port is taken, or as `bounds_of` and `load_all`.
    """
    import uvicorn

    from src.api import make_app

    options = make_options().parse_args(args)
    bounds = bounds_of(options)
    check_port(options.host, options.port)
    app = make_app(load_all(options), bounds)
    print(f"answers: http://{options.host}:{options.port}/docs (Ctrl-C ends it)", flush=True)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
    return 0


def make_options() -> Parser:
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


def bounds_of(options: Any) -> "Bounds":
    """The bounds that a command line sets.

    Raises:
        UserError: the largest request does not fit the queue.
    """
    from src.guard import Bounds

    bounds = Bounds(options.photos, options.batch, options.queue, options.megabytes)
    if bounds.photos > bounds.queue:
        raise UserError(f"--photos {bounds.photos}: no such request fits --queue {bounds.queue}; make it smaller")
    return bounds


def load_all(options: Any) -> dict[str, "Served"]:
    """The models of a command line, by what requests call them.

    Raises:
        UserError: two have one name, or as `load`.
    """
    from src.runs import short

    models: dict[str, Served] = {}
    for name in options.model:
        if short(name) in models:
            raise UserError(f"--model {name}: two models are called {short(name)}; name one of them by its run id")
        models[short(name)] = load(name, options.photo_megabytes, options.photo_megapixels, options.style)
    return models


def load(model: str, megabytes: float = 20.0, megapixels: float = 50.0, style: str = "") -> "Served":
    """A model by its name, and how it answers: as it was trained to, in a style or else its default.

    Raises:
        UserError: there is no such model; it knows no such style; none is asked for and none is its default.
    """
    from src.answerer import Ask, Limits, load_answerer
    from src.api import Served
    from src.runs import find_model

    answerer = load_answerer(find_model(model), Limits(megabytes, megapixels))
    if style and answerer.engine.decoder is None:
        raise UserError("--style: no captions are written; leave it out")
    ask = Ask(answerer.about.config.generate, style)
    answerer.style(ask)
    return Served(answerer, ask)


if __name__ == "__main__":
    run_command(main)
