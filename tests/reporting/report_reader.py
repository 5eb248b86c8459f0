"""Reads a report's HTML in tests."""

import json
from html.parser import HTMLParser
from pathlib import Path


class ReportReader(HTMLParser):
    """Headings, addresses and hover points of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.addresses: list[str] = []
        self.points: list[list] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.points += [json.loads(value or "") for name, value in attrs if name == "data-points"]

    def handle_data(self, data: str) -> None:
        if self.inside == "h2" and data.strip():
            self.headings.append(data)


def read_report(path: Path) -> tuple[str, ReportReader]:
    """A report's text, and its parsed contents."""
    text = path.read_text(encoding="utf-8")
    return text, ReportReader(text)
