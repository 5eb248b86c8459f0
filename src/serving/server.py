"""The API's server, its models and limits, from a command line."""

from jsonargparse import Namespace

from src.common.errors import UserError
from src.inference.group_predictor import load_predictor
from src.inference.predict_options import PredictOptions
from src.inference.predictor import ImageLimits
from src.serving.access_token import read_token, require_token
from src.serving.api import ServedModel, make_app
from src.serving.limits import RequestLimits
from src.serving.page_server import check_port
from src.tracking.run_registry import short_name


def serve_api(options: Namespace) -> None:
    """Loads the models and serves them until Ctrl-C.

    Raises:
        UserError: the port is taken, the address needs a token, or as `make_request_limits` and `load_served_models`.
    """
    import uvicorn

    limits = make_request_limits(options)
    check_port(options.host, options.port)
    require_token(options.host, token := read_token(options.token))
    app = make_app(load_served_models(options), limits, token)
    print(f"API: http://{options.host}:{options.port}{'' if token else '/docs'} (Ctrl-C ends it)", flush=True)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")


def make_request_limits(options: Namespace) -> RequestLimits:
    """The limits of a command line.

    Raises:
        UserError: the largest request does not fit the queue.
    """
    limits = RequestLimits(options.photos, options.batch, options.queue, options.megabytes)
    if limits.images > limits.queue:
        raise UserError(f"--photos {limits.images}: no such request fits --queue {limits.queue}; make it smaller")
    return limits


def load_served_models(options: Namespace) -> dict[str, ServedModel]:
    """The models of a command line, by the names that requests use.

    Raises:
        UserError: two have one name, or as `load_served_model`.
    """
    models: dict[str, ServedModel] = {}
    limits = ImageLimits(options.photo_megabytes, options.photo_megapixels)
    for name in options.model:
        short = short_name(name)
        if short in models:
            raise UserError(f"--model {name}: two models are called {short}; name one of them by its run id")
        models[short] = load_served_model(name, limits, options.style)
    return models


def load_served_model(model: str, limits: ImageLimits | None = None, style: str = "") -> ServedModel:
    """A model by its name, with its own options, in a style or else its default.

    Raises:
        UserError: there is no such model; it does not know the style, or has no default.
    """
    predictor = load_predictor(model, limits)
    if style and predictor.engine.decoder is None:
        raise UserError("--style: no captions are written; leave it out")
    options = PredictOptions(predictor.description.config.generate, style)
    predictor.check_captions(options)
    return ServedModel(predictor, options)
