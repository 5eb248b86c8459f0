"""Prediction options from a command line and a model's own config."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from src.common.errors import UserError
from src.config.cli import Overrides
from src.inference.submission import COMMENTS, MOS, NAME

if TYPE_CHECKING:
    from src.inference.batch_prediction import PredictOptions
    from src.models.model_folder import LoadedModel


def make_predict_options(
    options: Namespace, overrides: Overrides, loaded: "LoadedModel", labelled: bool = False
) -> "PredictOptions":
    """How a model predicts: by its own `generate` settings, except for those that a person typed.

    Args:
        options: of the command, with those of `add_prediction_options`.
        overrides: the options that a person typed, by dotted key.
        loaded: the model.
        labelled: predict only what an image has a label for, in the style of its own source.

    Returns:
        The settings, without a style where no captions are written.

    Raises:
        UserError: the model does not know the style, or cannot fill the columns.
    """
    from src.inference.batch_prediction import PredictOptions, check_style, default_style

    columns = choose_columns(options.get("columns", ""), loaded)
    style = ""
    if COMMENTS in columns:
        style = options.style or ("" if labelled else default_style(loaded))
        if style:
            check_style(loaded, style)
    typed = {key.removeprefix("generate."): value for key, value in overrides.items() if key.startswith("generate.")}
    generation = replace(loaded.config.generate, **typed)
    asked = {"mos": MOS in columns, "captions": COMMENTS in columns}
    return PredictOptions(generation, style, options.batch_size, options.cache, labelled, **asked)


def check_style_option(style: str, settings: Sequence["PredictOptions"]) -> None:
    """Raises UserError where a style is asked for and none of the models that answer together writes captions."""
    if style and not any(one.captions for one in settings):
        raise UserError("--style: no captions are written; leave it out")


def choose_columns(wanted: str, loaded: "LoadedModel") -> list[str]:
    """The columns to write: those asked for, else those that the model has heads for.

    Raises:
        UserError: an unknown column, or one that the model cannot fill.
    """
    model = loaded.config.model
    able = [NAME] + [MOS] * model.mos.enabled + [COMMENTS] * model.decoder.enabled
    columns = [word.strip() for word in wanted.split(",")] if wanted else able
    if columns not in ([NAME, MOS, COMMENTS], [NAME, COMMENTS], [NAME, MOS]):
        raise UserError(f"--columns {wanted}: give img_name,mos,comments or img_name,comments or img_name,mos")
    for column in columns:
        if column not in able:
            raise UserError(f"--columns: this model gives no {column}; it gives {','.join(able)}")
    return columns
