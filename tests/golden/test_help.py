"""Options of each command with their values and defaults, read from its --help."""

import importlib
import re
from contextlib import suppress

import pytest

from tests.golden.golden import compare_text

COMMANDS = "train evaluate compare predict sweep ensemble submissions prepare report export serve app ui".split()
SUBCOMMANDS = [
    f"prepare {name}" for name in ("check", "demo", "audit", "split", "cache", "neighbours", "biq2021", "spice")
]


@pytest.mark.parametrize("command", COMMANDS + SUBCOMMANDS)
def test_options_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *subcommand = command.split()
    main = importlib.import_module(f"src.{name}").main
    with suppress(SystemExit):
        main([*subcommand, "--help"])
    compare_text(f"help/{command.replace(' ', '_')}.txt", options_of(capsys.readouterr().out))


def options_of(text: str) -> str:
    """One line for each argument of a help text: names, values, and default or `required`; no descriptions."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    entries = re.findall(r"^  (?! |python)(.+(?:\n {4,}.+)*)", text, re.MULTILINE)
    return "".join(f"{line_of(entry)}\n" for entry in entries)


def line_of(entry: str) -> str:
    """`--data.val VAL = 0.1`, of an argument's entry."""
    names, _, about = re.sub(r"\n +", "  ", entry, count=1).partition("  ")
    names = re.sub(r" [^ ,]+(?:,[^ ]+)?(?=, -)", "", names)  # Python before 3.13 repeats the value for each name
    default = re.search(r".*\bdefault: (.*)\)$", about)
    if default:
        return f"{names} = {default[1]}".rstrip()
    return f"{names} required" if re.search(r"\(required\b[^(]*\)$", about) else names
