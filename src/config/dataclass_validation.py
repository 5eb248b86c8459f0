"""Dataclasses from mappings, checked by pydantic. An error names the key, its value and what the value should be."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails

from src.common.errors import UserError

T = TypeVar("T")
# What a value should be, by the first word of pydantic's error type.
FORMS = {"bool": "true or false", "list": "a list", "dict": "keys and values", "string": "text"}


def fill_dataclass(kind: type[T], tree: Mapping[str, Any], where: str = "") -> T:
    """A dataclass from a mapping; types and ranges are checked.

    Args:
        kind: the dataclass.
        tree: its values; those of dataclasses in it are mappings too.
        where: the mapping's key, for messages: model.decoder.options.

    Raises:
        UserError: an unknown or missing key, a wrong type or a number out of its range; `__cause__` is pydantic's
            ValidationError.
    """
    return check_value(kind, tree, where)


def check_value(kind: Any, value: Any, where: str) -> Any:
    """A value as its type hint says; raises as fill_dataclass, where the key `where` holds it."""
    try:
        return vars(_validator(kind)(value=value))["value"]
    except ValidationError as error:
        raise UserError(_describe(kind, value, where, error.errors()[0])) from error


def nearest_key_hint(key: str, keys: Sequence[str], otherwise: str = "--help lists all keys") -> str:
    """The remedy for a wrong key: the right one that is spelled most alike, or what to do where none is."""
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else f"; {otherwise}"


@cache
def _validator(kind: Any) -> type[BaseModel]:
    """A model around the type: only so are unknown keys of plain dataclasses refused at any depth."""
    return create_model("Value", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), value=(kind, ...))


def _describe(kind: Any, value: Any, where: str, error: ErrorDetails) -> str:
    """`data.sources[0].share: is -1, should be greater than or equal to 0`."""
    path = _path_of(value, error["loc"][1:])
    key = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    key = key.removeprefix(".")
    if error["type"] == "missing":
        return f"{key}: is missing; add it"
    if error["type"] == "unexpected_keyword_argument":
        keys = [field.name for field in fields(_type_at(kind, path[:-1]))]
        return f"{key}: there is no such key" + nearest_key_hint(str(path[-1]), keys, f"there are {', '.join(keys)}")
    if error["type"] == "dataclass_type":
        keys = [field.name for field in fields(_type_at(kind, path))]
        return f"{key}: is {error['input']}, should be keys and values: {', '.join(keys)}"
    return f"{key}: is {error['input']}, should be {_requirement(error)}"


def _path_of(value: Any, location: Sequence[str | int]) -> list[str | int]:
    """pydantic's path to a value, without the names of a union's types behind it."""
    path: list[str | int] = []
    for part in location:
        if not isinstance(value, Mapping | list):
            break
        path.append(part)
        value = value.get(part) if isinstance(value, Mapping) else value[int(part)]
    return path


def _type_at(kind: Any, path: Sequence[str | int]) -> Any:
    """The type of a value inside of a dataclass, lists and dicts included."""
    for part in path:
        kind = get_type_hints(kind)[str(part)] if is_dataclass(kind) else get_args(kind)[-1]
    return kind


def _requirement(error: ErrorDetails) -> str:
    if error["type"] == "literal_error":  # 'a', 'b' or 'c'
        return "one of " + error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
    form = FORMS.get(error["type"].partition("_")[0])
    return form or error["msg"].removeprefix("Input should be ").partition(",")[0]
