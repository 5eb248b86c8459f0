"""Command lines: parsers, options that several commands share, and which options a person typed."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import SUPPRESS, ArgumentParser, Namespace

from src.common.errors import UserError, one_line
from src.config.dataclass_validation import check_value, nearest_key_hint
from src.config.loader import config_from_dict, expand_home, read_yaml
from src.config.plugin_keys import short_keys
from src.config.schema import Config, Count, GenerationConfig, MosViewsConfig

Overrides = Mapping[str, Any]
"""The options that a person typed, by dotted key: {"generate.beam": 4, "cache": True}."""


class CommandParser(ArgumentParser):
    """A parser whose errors are one line that ends in the remedy."""

    words: Sequence[str] = ()  # of the command line

    def parse_args(self, args: Sequence[str] | None = None, *others: Any, **settings: Any) -> Namespace:  # type: ignore[override]
        """As jsonargparse's, with ~ expanded in paths, which a shell leaves in --option=~/path; raises UserError."""
        self.words = sys.argv[1:] if args is None else args
        options = super().parse_args(args, *others, **settings)
        for key, value in list(options.items()):
            options[key] = expand_home(value)
        return options

    def error(self, message: str, ex: Exception | None = None) -> Any:  # type: ignore[override]
        """Raises UserError. An item of a list is parsed without: the list's own error tells of it."""
        if not self.exit_on_error:
            return super().error(message, ex)
        text = one_line(message)
        if key := re.match(r'Parser key "([^"]+)"', text):
            self._check_option(key[1])
        if missing := re.fullmatch("the following arguments are required: (.+)", text):
            self._refuse_missing(missing[1].split(", "))
        if unknown := re.fullmatch("unrecognized arguments: (.+)", text):
            self._refuse_unknown(unknown[1].split())
        raise UserError(text.removeprefix("argument "))

    def _check_option(self, key: str) -> None:
        """Raises UserError, which names an option as it is typed, where its value on the command line is wrong."""
        for action in self._actions:
            if action.dest == key and action.option_strings:
                option = action.option_strings[0]
                value = self._typed_value(option)
                if kind := getattr(action, "_typehint", None):
                    check_value(kind, value, option)
                elif not isinstance(value, dict):
                    raise UserError(f"{option}: is {value}, should be keys and values; type {option}.KEY VALUE")

    def _refuse_missing(self, keys: Sequence[str]) -> None:
        """Raises UserError, which names required options as they are typed, and what they are."""
        actions = [action for action in self._actions if action.dest in keys and action.required]
        about = "; ".join(f"{(action.option_strings or [action.dest])[0]} ({action.help})" for action in actions)
        raise UserError(f"missing on the command line: {about}")

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        """Raises UserError, which names the first word that is no option or value of one, and the nearest option."""
        word = next((word for word in words if word.startswith("-")), words[0]).split("=")[0]
        if not word.startswith("-"):
            raise UserError(f"{word}: belongs to no option; quote a value that has spaces, or see --help")
        options = [option for option in self._option_string_actions if option.startswith("--")]
        raise UserError(f"{word}: there is no such option{nearest_key_hint(word, options, '--help lists all')}")

    def _typed_value(self, option: str) -> Any:
        """The value that follows an option or its `=`, as YAML reads it."""
        for word, following in zip(self.words, [*self.words[1:], ""], strict=True):
            name, equals, value = word.partition("=")
            if name.removesuffix("+") == option:
                typed = safe_yaml(value if equals else following)
                return [typed] if name.endswith("+") and not isinstance(typed, list) else typed
        return None


def make_parser(command: str, description: str, config: bool = True) -> CommandParser:
    """A parser for `python -m src.COMMAND`; with `config`, one that takes --config and every key of Config."""
    parser = CommandParser(prog=f"python -m src.{command}", description=description)
    if config:
        parser.add_argument("--config", type=str, default="", help="an experiment's YAML file")
        parser.add_class_arguments(Config)
        for key, kind in short_keys().items():
            parser.add_argument(f"--{key}", type=kind, default=SUPPRESS)
    return parser


def parse_command(parser: CommandParser, args: Sequence[str] | None = None) -> tuple[Config, Namespace]:
    """Reads the command line over the file that --config names. Returns the run's config and all other options.

    Raises:
        UserError: an unknown key (with the nearest right one), a value of the wrong type, a missing file.
    """
    options = parser.parse_args(args)
    names = [field.name for field in fields(Config)]
    values = options.as_dict()
    if options.config:
        tree = read_yaml(Path(options.config))
        config_from_dict(tree, options.config)  # refuses a wrong value by the file's name
        values = parser.parse_args(args, namespace=parser.parse_object(tree)).as_dict()
    config = config_from_dict({name: values[name] for name in names if name in values})
    return config, Namespace(**{key: value for key, value in vars(options).items() if key not in names})


def safe_yaml(text: str) -> Any:
    """A value as YAML reads it; the text itself where it is no YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


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
    parser.add_class_arguments(MosViewsConfig, "views")
