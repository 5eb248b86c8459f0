"""Command lines and experiment files: YAML with includes, dotted overrides, types checked by jsonargparse."""

import difflib
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import SUPPRESS, ArgumentParser, Namespace

from src.common.errors import UserError, one_line
from src.config.plugin_keys import OPEN_KEYS, decoder_class, option_keys, resolve_losses, short_keys
from src.config.schema import Config, to_dict

T = TypeVar("T")


class CommandParser(ArgumentParser):
    """A parser whose errors are one line that ends in the remedy."""

    def error(self, message: str, ex: Exception | None = None) -> Any:  # type: ignore[override]
        if not self.exit_on_error:  # of an item in a list, whose keys are no options: the list's own error has this one
            return super().error(message, ex)
        raise UserError(self._typed(plain_message(message)) + unknown_option_hint(str(message)))

    def _typed(self, message: str) -> str:
        """The message, with an option of the command's own named as it is typed: --batch-size, not batch_size."""
        name, colon, rest = message.partition(": ")
        options = [
            action.option_strings[0] for action in self._actions if action.dest == name and action.option_strings
        ]
        return f"{options[0]}{colon}{rest}" if options and "." not in name else message


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
    first = parser.parse_args(args)
    if not first.config:
        return _instantiate(parser, Config, first), first
    start = parser.parse_object(_checked(read_yaml(Path(first.config)), first.config))
    return (config := _instantiate(parser, Config, parser.parse_args(args, namespace=start))), Namespace(
        **{k: v for k, v in vars(first).items() if k not in vars(config)}
    )


def load_config(path: Path | str | None = None, overrides: dict[str, Any] | None = None) -> Config:
    """An experiment's config from its file (None: the defaults) and dotted overrides: {"train.epochs": 3}.

    Raises:
        UserError: as `parse`.
    """
    tree = read_yaml(Path(path)) if path else {}
    for key, value in (overrides or {}).items():
        check_key(key)
        tree = merge_trees(tree, nest_key(key, value))
    return config_from_dict(tree, str(path or "overrides"))


def config_from_dict(tree: dict[str, Any], where: str = "config") -> Config:
    """A config from nested dicts, as to_dict gives; keys that are missing take their defaults."""
    parser = make_parser("train", "")
    return _instantiate(parser, Config, parser.parse_object(_checked(tree, where)))


def read_yaml(path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A YAML file as nested dicts, merged over the files it includes."""
    if path.resolve() in including:
        raise UserError(f"{path}: includes itself; remove it from `include`")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {one_line(error)}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must hold keys and values, such as `train: {{epochs: 3}}`")
    merged: dict[str, Any] = {}
    for name in _includes(tree.pop("include", []), path):
        merged = merge_trees(merged, read_yaml(path.parent / name, (*including, path.resolve())))
    return merge_trees(merged, tree)


def _includes(value: Any, path: Path) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: `include` must be a list of file names")
    return names


def merge_trees(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `under`, dict by dict; a list replaces a list."""
    result = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge_trees(result[key], value) if both else value
    return result


def config_keys() -> list[str]:
    """Every dotted key of Config, groups included: data, data.val, model.decoder.hidden, ..."""
    return [*_keys(to_dict(Config())), *short_keys()]


def _keys(tree: dict[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in tree.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += _keys(value, f"{prefix}{key}.")
    return keys


def check_key(key: str) -> None:
    """Raises UserError, naming the nearest right key, where `key` is no key of Config."""
    check_keys([key])


def check_keys(keys: Sequence[str]) -> None:
    """As check_key, of several keys."""
    known = config_keys()
    for key in keys:
        if key not in known and not key.startswith(OPEN_KEYS) and key not in (options := option_keys(key)):
            raise UserError(f"unknown key {key}{nearest_key_hint(key, [*known, *options])}")


def _checked(tree: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        check_keys(_keys(tree))
        check_lists(Config, tree)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return deepcopy(tree)  # the parser changes lists in place


def check_lists(kind: type, tree: dict[str, Any], prefix: str = "") -> None:
    """Raises UserError where an item of a list of dataclasses is wrong; it is named: data.sources[0].share."""
    for name, hint in get_type_hints(kind).items():
        value, inner = tree.get(name), get_args(hint)
        if is_dataclass(hint) and isinstance(value, dict):
            check_lists(hint, value, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif get_origin(hint) is list and is_dataclass(inner[0]) and isinstance(value, list):
            for index, item in enumerate(value):
                check_item(inner[0], item, f"{prefix}{name}[{index}]")  # type: ignore[arg-type]


def check_item(kind: type, item: Any, where: str) -> None:
    """Raises UserError where an item of a list is none of its kind."""
    keys = [key.name for key in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(item, dict):
        raise UserError(f"{where}: is {item}, should be keys and values: {', '.join(keys)}")
    if unknown := [str(key) for key in item if key not in keys]:
        remedy = nearest_key_hint(unknown[0], keys, f"there are {', '.join(keys)}")
        raise UserError(f"{where}.{unknown[0]}: there is no such key{remedy}")
    for key in fields(kind):
        if key.name not in item and key.default is MISSING and key.default_factory is MISSING:
            raise UserError(f"{where}.{key.name}: is missing; add it")
    try:
        fill_dataclass(kind, item)
    except UserError as error:
        raise UserError(f"{where}.{error}") from error


def nearest_key_hint(key: str, keys: list[str], otherwise: str = "--help lists all keys") -> str:
    """The remedy for a wrong key: the right one that is spelled most alike, or what to do where none is."""
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else f"; {otherwise}"


def plain_message(message: object) -> str:
    """A message of jsonargparse in one line, without what its type checker says of itself: `train.lr: is -1, ...`."""
    number = r'Parser key "([^"]+)": \d+ validation errors? for \S+ Input (should .*?) \[type=.*?Got value: (.*)'
    item = r"Parser key \"([^\"]+)\": Problem with given class_path '[^']+':"
    text = re.sub(number, r"\1: is \3, \2", re.sub(item, r"\1:", one_line(message)))
    other = re.match(r'Parser key "([^"]+)": Expected a (.+?)\. Got value: (.*)', text)
    return f"{other[1]}: is {other[3]}, should be {type_in_words(other[2])}" if other else text


def type_in_words(expected: str) -> str:
    """A type as jsonargparse prints it, in words: <class 'bool'>, typing.Literal['a', 'b']."""
    choices = re.fullmatch(r"typing\.Literal\[(.*)\]", expected)
    kinds = {"bool": "true or false", "list": "a list", "dict": "keys and values", "str": "text"}
    named = re.fullmatch(r"<class '(\w+)'>", expected)
    if choices:
        return "one of " + choices[1].replace("'", "")
    return kinds.get(named[1], named[1]) if named else expected


def unknown_option_hint(message: str) -> str:
    """What to type instead, for a message about an argument that is not known."""
    _, _, words = message.partition("unrecognized arguments: ")
    wrong = [word.split("=")[0].lstrip("-") for word in words.split() if word.startswith("--")]
    return nearest_key_hint(wrong[0], config_keys()) if wrong else ""


def nest_key(key: str, value: Any) -> dict[str, Any]:
    """A dotted key's value as nested dicts."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def fill_dataclass(kind: type[T], tree: dict[str, Any]) -> T:
    """A dataclass from a mapping; types and ranges are checked.

    Raises:
        UserError: an unknown key, a wrong type or a number out of its range; `__cause__` is jsonargparse's own error.
    """
    check_lists(kind, tree)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    try:
        return _instantiate(parser, kind, parser.parse_object(deepcopy(tree)))
    except Exception as error:  # jsonargparse raises several kinds, each a wrong key or type
        raise UserError(plain_message(error)) from error


def fill_options(kind: str, options: dict[str, Any], where: str = "model.decoder.options") -> Any:
    """The options of a kind of decoder, with defaults; types and ranges are checked.

    Raises:
        UserError: there is no such kind, or as fill_dataclass.
    """
    form = decoder_class(kind).options_type
    if options and not fields(form):
        raise UserError(f"{where}: kind {kind} has no options of its own; remove {', '.join(options)}")
    check_item(form, options, where)
    return fill_dataclass(form, options)


def _resolve_short_keys(namespace: Namespace) -> None:
    """Moves the short forms of keys into model.decoder.options and model.mos.losses, and fills the options."""
    decoder, mos = namespace.model.decoder, namespace.model.mos
    short = [key.rpartition(".")[2] for key in short_keys()]
    groups = {kind: decoder.pop(kind) for kind in short if kind in decoder}
    for kind, group in groups.items():
        fill_options(kind, group, f"model.decoder.{kind}")
    decoder.options = vars(fill_options(decoder.kind, {**decoder.options, **groups.get(decoder.kind, {})}))
    mos.losses = resolve_losses(mos.losses, {name: mos.pop(name) for name in short if name in mos})


def _instantiate(parser: ArgumentParser, kind: type[T], namespace: Namespace) -> T:
    if kind is Config:
        _resolve_short_keys(namespace)
    made = parser.instantiate(namespace)
    return kind(**{field.name: made[field.name] for field in fields(kind)})  # type: ignore[arg-type]
