"""The models that the API serves, and its bounds, from a command line."""

from typing import TYPE_CHECKING, Any

from src.common.errors import UserError

if TYPE_CHECKING:
    from src.serving.api import ServedModel
    from src.serving.limits import RequestLimits


def make_request_limits(options: Any) -> "RequestLimits":
    """The bounds that a command line sets.

    Raises:
        UserError: the largest request does not fit the queue.
    """
    from src.serving.limits import RequestLimits

    bounds = RequestLimits(options.photos, options.batch, options.queue, options.megabytes)
    if bounds.photos > bounds.queue:
        raise UserError(f"--photos {bounds.photos}: no such request fits --queue {bounds.queue}; make it smaller")
    return bounds


def load_served_models(options: Any) -> dict[str, "ServedModel"]:
    """The models of a command line, by what requests call them.

    Raises:
        UserError: two have one name, or as `load`.
    """
    from src.tracking.run_registry import short_name

    models: dict[str, ServedModel] = {}
    for name in options.model:
        if short_name(name) in models:
            raise UserError(f"--model {name}: two models are called {short_name(name)}; name one of them by its run id")
        models[short_name(name)] = load_served_model(
            name, options.photo_megabytes, options.photo_megapixels, options.style
        )
    return models


def load_served_model(model: str, megabytes: float = 20.0, megapixels: float = 50.0, style: str = "") -> "ServedModel":
    """A model by its name, and how it answers: as it was trained to, in a style or else its default.

    Raises:
        UserError: there is no such model; it knows no such style; none is asked for and none is its default.
    """
    from src.inference.predictor import Limits, RequestOptions, load_predictor
    from src.serving.api import ServedModel
    from src.tracking.run_registry import find_model

    answerer = load_predictor(find_model(model), Limits(megabytes, megapixels))
    if style and answerer.engine.decoder is None:
        raise UserError("--style: no captions are written; leave it out")
    ask = RequestOptions(answerer.about.config.generate, style)
    answerer.style(ask)
    return ServedModel(answerer, ask)
