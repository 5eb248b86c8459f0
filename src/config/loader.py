"""Experiment files: YAML with includes, and dotted overrides."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import yaml

from src.common.errors import UserError, one_line
from src.config.dataclass_validation import fill_dataclass, nearest_key_hint
from src.config.plugin_keys import fill_plugin_settings, option_keys, pop_short_keys, short_keys
from src.config.schema import Config, to_dict

# What yaml raises: beside its own error others, at values of explicit tags (!!int) and at deep nesting.
PROBLEMS = (yaml.YAMLError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
MAX_VALUES = 100_000  # of a YAML file; aliases of aliases can stand for more than any memory holds


def load_config(path: Path | str | None = None, overrides: dict[str, Any] | None = None) -> Config:
    """An experiment's config from its file (None: the defaults) and dotted overrides: {"train.epochs": 3}.

    Raises:
        UserError: as read_yaml, check_keys and config_from_dict.
    """
    tree = read_yaml(Path(path)) if path else {}
    check_keys(list(overrides or {}))
    for key, value in (overrides or {}).items():
        tree = merge_trees(tree, nest_key(key, value))
    return config_from_dict(tree, str(path or ""))


def config_from_dict(tree: dict[str, Any], where: str = "") -> Config:
    """A config from nested dicts, as to_dict gives; keys that are missing or None take their defaults.

    Args:
        tree: groups of keys; a decoder's options and the mos losses also in their short forms, see plugin_keys.
        where: the file or other place that the values come from, for messages.

    Raises:
        UserError: an unknown key (with the nearest right one), a wrong type or a number out of its range.
    """
    try:
        tree = _without_none(tree)
        check_keys(_keys(tree))
        groups = pop_short_keys(tree)
        config = fill_dataclass(Config, tree)
        fill_plugin_settings(config.model, groups)
        return config
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from error


def _without_none(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A copy of a config's tree without keys that hold None, such as a group of which YAML has only the name."""
    return {
        key: _without_none(value, f"{prefix}{key}.")
        if isinstance(value, dict) and f"{prefix}{key}." not in mapping_prefixes()
        else value
        for key, value in tree.items()
        if value is not None
    }


def read_yaml(path: Path, includers: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A YAML file as nested dicts, with ~ expanded in paths, merged over the files it includes.

    Raises:
        UserError: as load_yaml, or it includes itself.
    """
    if path.resolve() in includers:
        raise UserError(f"{path}: includes itself; remove it from `include`")
    tree = load_yaml(path)
    merged: dict[str, Any] = {}
    for name in _includes(tree.pop("include", []), path):
        merged = merge_trees(merged, read_yaml(path.parent / Path(name).expanduser(), (*includers, path.resolve())))
    return merge_trees(merged, expand_home(tree))


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's keys and plain values, without the files that it includes.

    Raises:
        UserError: it cannot be read, is not valid YAML, holds no keys, or more than MAX_VALUES values.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except PROBLEMS as error:
        raise UserError(f"{path}: not valid YAML: {one_line(error)}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must hold keys and values, such as `train: {{epochs: 3}}`")
    if sum(1 for _ in islice(_values(tree), MAX_VALUES + 1)) > MAX_VALUES:
        raise UserError(f"{path}: holds more than {MAX_VALUES:,} values, aliases counted each time; shorten it")
    return tree


def _values(tree: Any) -> Iterator[Any]:
    """All values of nested dicts and lists; without an end where an alias makes a circle."""
    rest = [tree]
    while rest:
        yield (value := rest.pop())
        rest += value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()


def expand_home(value: Any) -> Any:
    """A value with the home folder for ~ in texts that begin with ~/ or ~USER/, in dicts and lists at any depth."""
    if isinstance(value, dict):
        return {key: expand_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [expand_home(item) for item in value]
    return os.path.expanduser(value) if isinstance(value, str) and re.match(r"~\w*/", value) else value  # noqa: PTH111


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


def nest_key(key: str, value: Any) -> dict[str, Any]:
    """A dotted key's value as nested dicts."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def config_keys() -> list[str]:
    """Every dotted key of Config, groups included: data, data.val, model.decoder.hidden, ..."""
    return [*_keys(to_dict(Config())), *short_keys()]


@cache
def mapping_prefixes() -> tuple[str, ...]:
    """Prefixes of the keys that any name may follow, those of Config's dicts: model.backbone.options., ..."""
    return tuple(_mapping_prefixes(Config))


def _mapping_prefixes(kind: type[Any], prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint, key = hints[field.name], f"{prefix}{field.name}."
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _mapping_prefixes(hint, key)
        elif dict in (hint, get_origin(hint)):
            yield key


def _keys(tree: dict[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in tree.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += _keys(value, f"{prefix}{key}.")
    return keys


def check_keys(keys: Sequence[str]) -> None:
    """Raises UserError, naming the nearest right key, where one of `keys` is no key of Config."""
    known = config_keys()
    for key in keys:
        if key not in known and not key.startswith(mapping_prefixes()) and key not in (options := option_keys(key)):
            raise UserError(f"unknown key {key}{nearest_key_hint(key, [*known, *options])}")
