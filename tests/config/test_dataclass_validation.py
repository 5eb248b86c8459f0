"""Dataclasses from mappings: what is filled, and the one line that names what is wrong."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from src.common.errors import UserError
from src.config.dataclass_validation import check_value, fill_dataclass
from src.config.schema import AtLeast0, Count


@dataclass
class Part:
    size: Count
    kind: Literal["a", "b"] = "a"


@dataclass
class Whole:
    parts: list[Part] = field(default_factory=list)
    weights: dict[str, AtLeast0] = field(default_factory=dict)
    start: list[dict[str, Any] | str] = field(default_factory=list)
    part: Part = field(default_factory=lambda: Part(1))


def test_values_are_converted_and_missing_keys_take_their_defaults() -> None:
    filled = fill_dataclass(Whole, {"parts": [{"size": "3"}], "weights": {"x": "1e-4"}, "start": ["a", {"b": 1}]})
    assert filled == Whole([Part(3)], {"x": 1e-4}, ["a", {"b": 1}], Part(1))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"parts": [{"size": 1}, {"size": 0}]}, "parts[1].size: is 0, should be greater than or equal to 1"),
        ({"parts": [{"kind": "a"}]}, "parts[0].size: is missing; add it"),
        ({"parts": [{"size": 1, "sise": 1}]}, "parts[0].sise: there is no such key; did you mean size?"),
        ({"parts": [{"size": 1, "x": 1}]}, "parts[0].x: there is no such key; there are size, kind"),
        ({"parts": ["a"]}, "parts[0]: is a, should be keys and values: size, kind"),
        ({"part": {"size": 1, "kind": "c"}}, "part.kind: is c, should be one of a, b"),
        ({"part": 1}, "part: is 1, should be keys and values: size, kind"),
        ({"weights": {"x": -1}}, "weights.x: is -1, should be greater than or equal to 0"),
        ({"weights": [1]}, "weights: is [1], should be keys and values"),
        ({"start": [5]}, "start[0]: is 5, should be keys and values"),
        ({"port": 1}, "port: there is no such key; did you mean part?"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        fill_dataclass(Whole, tree)
    assert str(raised.value) == message
    assert isinstance(raised.value.__cause__, ValidationError)


def test_keys_are_named_from_where_the_mapping_stands() -> None:
    with pytest.raises(UserError, match=r"^model.options.part.size: is 0"):
        fill_dataclass(Whole, {"part": {"size": 0}}, "model.options")
    with pytest.raises(UserError, match=r"^--size: is 0"):
        check_value(Count, 0, "--size")
