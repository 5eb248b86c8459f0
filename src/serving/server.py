"""The models that the API serves, and its bounds, from a command line."""

from typing import TYPE_CHECKING, Any

from src.common.errors import UserError

if TYPE_CHECKING:
    from src.serving.api import Served
    from src.serving.limits import Bounds


def bounds_of(options: Any) -> "Bounds":
    """The bounds that a command line sets.

    Raises:
        UserError: the largest request does not fit the queue.
    """
    from src.serving.limits import Bounds

    bounds = Bounds(options.photos, options.batch, options.queue, options.megabytes)
    if bounds.photos > bounds.queue:
        raise UserError(f"--photos {bounds.photos}: no such request fits --queue {bounds.queue}; make it smaller")
    return bounds


def load_all(options: Any) -> dict[str, "Served"]:
    """The models of a command line, by what requests call them.

    Raises:
        UserError: two have one name, or as `load`.
    """
    from src.tracking.run_registry import short

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
    from src.inference.predictor import Ask, Limits, load_answerer
    from src.serving.api import Served
    from src.tracking.run_registry import find_model

    answerer = load_answerer(find_model(model), Limits(megabytes, megapixels))
    if style and answerer.engine.decoder is None:
        raise UserError("--style: no captions are written; leave it out")
    ask = Ask(answerer.about.config.generate, style)
    answerer.style(ask)
    return Served(answerer, ask)
