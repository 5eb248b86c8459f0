"""The page of configuration keys is what the dataclasses say today."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from docs.generate_configuration import PAGE, render, sections
from src.config.schema import Config, Count, DataConfig, SourceConfig, to_dict


def test_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "write it anew: python -m docs.generate_configuration"


def test_page_has_each_key_of_an_experiment_in_its_section() -> None:
    tables = dict(part.split("\n", 1) for part in PAGE.read_text(encoding="utf-8").split("\n### ")[1:])
    for key, value in leaves(to_dict(Config(data=DataConfig(sources=[SourceConfig()])))):
        section, _, name = key.rpartition(".")
        default = value if value != "" else "empty"
        assert f"| `{name}` |" in tables[section], key
        assert isinstance(value, float | bool | list | dict) or f"{default}" in tables[section], key


def leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of nested mappings with its dotted key; an item of a list stands under `key[]`."""
    for name, value in tree.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from leaves(value[0], f"{prefix}{name}[].")
        elif isinstance(value, dict) and value and name not in ("losses", "options"):  # keys that plug-ins decide
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_page_has_the_options_of_a_decoder() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert "| `kv_heads` | integer, at least 1 | `2` |" in page.partition("### model.decoder.llama\n")[2]


def test_section_of_a_dataclass() -> None:
    @dataclass
    class Inner:
        """Inner things.

        Args:
            size: how many, or
                none.
        """

        size: Count = 3

    @dataclass
    class Outer:
        """Outer things.

        Args:
            name: of it.
            inner: of the things.
        """

        name: str = ""
        inner: Inner = field(default_factory=lambda: Inner(size=5))

    # Local classes cannot be resolved from strings; these annotations are objects.
    outer, inner = sections(Outer, "outer")
    assert outer.splitlines()[2] == "Outer things."
    assert outer.splitlines()[-1] == "| `name` | text | empty | of it. |"
    assert inner.splitlines()[0] == "### outer.inner"
    assert inner.splitlines()[-1] == "| `size` | integer, at least 1 | `5` | how many, or none. |"
