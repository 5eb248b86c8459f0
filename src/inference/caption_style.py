"""Caption styles: the token that a caption starts with, one for each data set whose captions a model learned.

Held by tests/inference/test_predict_submission.py.
"""

from src.common.errors import UserError
from src.config.schema import Config
from src.data.formats.base import source_name
from src.data.sources import challenge_sources
from src.models.model_folder import ModelDescription


def source_style(config: Config, source: str) -> str:
    """The caption style that a data set trains."""
    return next((s.style or source for s in config.data.sources if source_name(s) == source), source)


def known_styles(description: ModelDescription) -> list[str]:
    """The styles whose captions the model learned; a source without captions has a token that was never trained."""
    comments = description.meta.get("comments", {})
    return [style for style in description.tokenizer.styles if comments.get(style, True)]


def check_style(description: ModelDescription, style: str) -> None:
    """Raises UserError, naming the known styles, where the model learned no captions of a style."""
    if style not in (known := known_styles(description)):
        raise UserError(f"--style {style}: this model knows {', '.join(known)}; choose one of these")


def default_style(description: ModelDescription) -> str:
    """The style of the challenge's comments where the model knows it, else the only style.

    Raises:
        UserError: the model knows several styles, and none is the challenge's.
    """
    known = known_styles(description)
    sources = description.config.data.sources
    challenge = [source_style(description.config, source_name(source)) for source in challenge_sources(sources)]
    candidates = [style for style in challenge if style in known]
    if not candidates and len(known) != 1:
        raise UserError(f"--style: choose the style of the captions; this model knows {', '.join(known)}")
    return (candidates or known)[0]


def style_token(description: ModelDescription, style: str, source: str = "") -> int:
    """The token that a caption starts with.

    Args:
        description: the model.
        style: empty: the style of the image's source, or the default where the model does not know that.
        source: the image's data set.

    Raises:
        UserError: the model does not know the style, or has no default.
    """
    if style:
        check_style(description, style)
        return description.tokenizer.style(style)
    trained = source_style(description.config, source)
    return description.tokenizer.style(trained if trained in known_styles(description) else default_style(description))
