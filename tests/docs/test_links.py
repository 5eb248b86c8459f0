"""Every relative link, anchor and picture of the documentation leads somewhere, and each page is in the navigation."""

import tomllib
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown import markdown

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OF_ROOT = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")]
PAGES = sorted([*OF_ROOT, *DOCS.rglob("*.md")])
EXTENSIONS = ["attr_list", "fenced_code", "tables", "toc"]


class Targets(HTMLParser):
    """The links, pictures and anchors of an HTML text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (tag, name) in {("a", "href"), ("img", "src")}:
                self.links.append(value)
            elif value and name == "id":
                self.anchors.add(value)


@cache
def targets(page: Path) -> Targets:
    """The links, pictures and anchors of a page."""
    parser = Targets()
    parser.feed(markdown(page.read_text(encoding="utf-8"), extensions=EXTENSIONS))
    return parser


def dead_links(page: Path, root: Path) -> Iterator[str]:
    """Each relative link of a page whose file or anchor does not exist, or whose file lies outside of a folder."""
    for link in targets(page).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.exists() or not target.is_relative_to(root):
            yield f"{link}: no such file in {root.name}"
        elif parts.fragment and target.suffix == ".md" and parts.fragment not in targets(target).anchors:
            yield f"{link}: no such heading"


def pages_of(nav: list | dict | str) -> Iterator[str]:
    """The pages of the site's navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_of(entry)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page(page: Path) -> None:
    # A page of the site cannot link to a file outside of the site.
    assert list(dead_links(page, DOCS if page.is_relative_to(DOCS) else ROOT)) == []


def test_dead_links_are_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading\n[a](no.md) [b](#none) ![c](no.png) [d](#a-heading) [e](../README.md)\n\n    [f](x.md)\n"
    )
    dead = [line.split(":")[0] for line in dead_links(page, tmp_path)]
    assert dead == ["no.md", "#none", "no.png", "../README.md"]


def test_navigation_lists_each_page_once() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    assert sorted(pages_of(nav)) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
