"""Writes docs/configuration.md from the configuration's dataclasses: python -m docs.generate_configuration

The keys, types and defaults are those of the code; the explanations are the `Args` of the docstrings.
"""

import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from src.common.plugins import load_plugin, plugin_names
from src.config.plugin_keys import HEADS
from src.config.schema import Config
from src.tuning.comparison_config import load_comparison
from src.tuning.sweep_config import load_sweep

PAGE = Path(__file__).with_name("configuration.md")
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
NAMES = {bool: "true or false", int: "integer", float: "number", str: "text", dict: "mapping", Any: "any value"}
INTRODUCTION = """\
# Configuration

<!-- `make docs` writes this page from the dataclasses of src/config. Do not edit it by hand. -->

An experiment is one YAML file, such as `configs/both.yaml`. A key that the file does not name has its default.

## Files and the command line

- `include: [data/real.yaml, model/classic.yaml]` starts from other files. Their paths are relative to the file.
- A later file of the list wins over an earlier one. The file itself wins over the files that it includes.
- The command line wins over all files: `python -m src.train --config configs/both.yaml --train.epochs 3`.
- An unknown key or a wrong type ends the command with one line that names the file and the key.
- `python -m src.train --help` prints the same keys as this page.

A dotted key stands for nested keys: `model.mos.hidden` is `model: {mos: {hidden: ...}}` in YAML.
"""
SWEEPS = """\
## Sweep files

A file of `sweeps/` holds these keys. [Sweeps](sweeps.md) explains them by example.
"""
COMPARISONS = """\
## Comparison files

A file of `configs/compare/` holds the keys of an experiment, which all variants share, and these keys beside them.
"""


def main() -> None:
    """Writes the page."""
    PAGE.write_text(render(), encoding="utf-8")


def render() -> str:
    """The whole page as Markdown."""
    sweep = get_type_hints(load_sweep)["return"]
    comparison = get_type_hints(get_type_hints(load_comparison)["return"])["comparison"]
    parts = [
        INTRODUCTION,
        "## Keys of an experiment\n",
        *sections(Config),
        *head_options(),
        SWEEPS,
        *sections(sweep, title="keys of a sweep"),
    ]
    return "\n".join([*parts, COMPARISONS, *sections(comparison, title="keys of a comparison")])


def head_options() -> Iterator[str]:
    """The section of each kind of decoder or mos head that has options of its own."""
    for head, (package, _) in HEADS.items():
        for kind in plugin_names(package):
            options = getattr(load_plugin(package, kind, f"model.{head}.kind"), "Options", None)
            if options and fields(options):
                yield from sections(options, title=f"model.{head}.{kind}")


def sections(cls: type, prefix: str = "", title: str = "", default: Any = None) -> Iterator[str]:
    """The section of a dataclass, then those of the dataclasses in its fields.

    Args:
        cls: the dataclass.
        prefix: its key, such as model.decoder; empty at the top.
        title: the heading, where it is not the key.
        default: the instance whose values are the defaults; None: that of the dataclass.
    """
    hints, texts = get_type_hints(cls, include_extras=True), arguments(cls)
    default = default or cls(**dict.fromkeys(required(cls), ""))
    nested = [one.name for one in fields(cls) if is_dataclass(hints[one.name])]
    rows = [
        f"| `{one.name}` | {type_name(hints[one.name])} | {value(getattr(default, one.name))} | {texts[one.name]} |"
        for one in fields(cls)
        if one.name not in nested
    ]
    if rows:
        table = ["| key | type | default | meaning |", "|---|---|---|---|", *rows]
        yield "\n".join([f"### {title or prefix}", "", summary(cls), "", *table, ""])
    for name in nested:
        yield from sections(hints[name], f"{prefix}.{name}".strip("."), default=getattr(default, name))
    for one in fields(cls):
        if (items := get_args(hints[one.name])) and is_dataclass(items[0]):
            yield from sections(items[0], f"{prefix}.{one.name}[]".strip("."))


def required(cls: type) -> list[str]:
    """The fields of a dataclass without a default."""
    return [one.name for one in fields(cls) if one.default is MISSING and one.default_factory is MISSING]


def summary(cls: type) -> str:
    """The docstring of a class up to its sections, as one paragraph."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\nArgs:")[0].split())


def arguments(cls: type) -> dict[str, str]:
    """The explanation of each argument in a class's docstring, as the text of a table's cell."""
    text = (inspect.getdoc(cls) or "").partition("Args:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()).replace("|", "\\|").replace("<", "&lt;") for name, words in found}


def type_name(hint: Any) -> str:
    """A type in words: `integer, at least 1`."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return ", ".join([type_name(args[0]), *bounds(args[1:])])
    if origin is Literal:
        *choices, last = (f"`{choice}`" for choice in args)
        return " or ".join(filter(None, [", ".join(choices), last]))
    if origin is list:
        return f"list of {type_name(args[0])}"
    if origin in (types.UnionType, Union):
        return " or ".join(map(type_name, args))
    if is_dataclass(hint):
        return "mappings"
    return NAMES[origin or hint]


def bounds(constraints: tuple[Any, ...]) -> Iterator[str]:
    """What annotated constraints allow, in words."""
    for constraint in constraints:
        for name, words in LIMITS.items():
            if (limit := getattr(constraint, name, None)) is not None:
                yield f"{words} {limit:,}"


def value(default: Any) -> str:
    """A default as YAML."""
    if default == "":
        return "empty"
    text = yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{text}`"


if __name__ == "__main__":
    main()
