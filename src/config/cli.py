"""Command lines: options that several commands share, and which options a person typed."""

from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import Namespace

from src.config.loader import CommandParser
from src.config.schema import Count, GenerationConfig

Overrides = Mapping[str, Any]
"""The options that a person typed, by dotted key: {"generate.beam": 4, "cache": True}."""


def parse_with_overrides(parser: CommandParser, args: Sequence[str] | None = None) -> tuple[Namespace, Overrides]:
    """All options of a command line, defaults included, and those alone that the person typed.

    Raises:
        UserError: an unknown option, a wrong value, or a required option is missing.
    """
    overrides = dict(parser.parse_args(args, defaults=False).items())
    options = parser.get_defaults()
    for key, value in overrides.items():
        options[key] = value
    return options, overrides


def add_image_options(parser: CommandParser) -> None:
    """Options that say which images are predicted."""
    about = "photos: a table with img_name and perhaps img_path (test.csv), a .txt with a name a line, or a folder"
    parser.add_argument("--data", type=str, default="", help=about)
    parser.add_argument("--images", type=str, default="", help="folder of the photos, where the table names no paths")
    about = "the sample submission: names and order of the rows; default: sample_submission.csv beside the table"
    parser.add_argument("--sample", type=str, default="", help=about)


def add_prediction_options(parser: CommandParser, style_help: str) -> None:
    """Options that say how a model predicts; `style_help` explains --style."""
    parser.add_argument("--style", type=str, default="", help=style_help)
    parser.add_argument("--batch-size", type=Count, default=32, help="photos at a time: less needs less memory")
    parser.add_argument("--cache", type=bool, default=False, help="keep features in the cache for the next time")
    parser.add_class_arguments(GenerationConfig, "generate")
