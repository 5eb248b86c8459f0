"""Formulas as MathML, which browsers draw without a script.

A formula stands in a fenced block of the language `math`, as LaTeX, so that code hosts draw the same page too.
"""

from typing import Any

from latex2mathml.converter import convert


def fence(source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **_: Any) -> str:
    """The HTML of a fenced block, with the arguments that pymdownx.superfences passes."""
    return f'<div class="{css_class}">{convert(source, display="block")}</div>'
