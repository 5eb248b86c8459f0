"""A report as one self-contained HTML file: sections of tables, plots, galleries and text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from src.common.errors import UserError
from src.common.files import write_text
from src.reporting.embedded_images import figure_png, png_uri

MAX_BYTES = 20_000_000  # of a page


@dataclass
class Table:
    """A header, and rows of cells; the first column names the rows."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = "table"


@dataclass
class Text:
    """Preformatted text."""

    text: str
    kind: str = "text"


@dataclass
class Plot:
    """A figure as PNG, with a name for its file and a title.

    Hovered points (x, y, i) show image i of Page.hover_images; x and y are fractions of the size from the top left.
    """

    name: str
    title: str
    png: bytes
    points: list[tuple[float, float, int]] = field(default_factory=list)
    kind: str = "plot"

    @property
    def uri(self) -> str:
        """The figure as data URI."""
        return png_uri(self.png)


@dataclass
class GalleryImage:
    """An image of a gallery: its data URI, a title, and the caption and references below."""

    uri: str
    title: str
    caption: str = ""
    references: Sequence[str] = ()


@dataclass
class Gallery:
    """Images side by side."""

    title: str
    images: Sequence[GalleryImage]
    kind: str = "gallery"


Block = Table | Text | Plot | Gallery


@dataclass
class Section:
    """A part of the page: a title, a description in a sentence or two, and blocks."""

    title: str
    description: str = ""
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Page:
    """A report: title, lines below it, sections, and (data URI, label) of images that plots show for hovered points."""

    title: str
    summary: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    hover_images: list[tuple[str, str]] = field(default_factory=list)

    def plots(self) -> list[Plot]:
        """All plots."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Plot)]


def make_plot(name: str, title: str, figure: Figure) -> Plot:
    """A figure as a block."""
    return Plot(file_name(name), title, figure_png(figure))


def file_name(text: str) -> str:
    """A text as the name of a file: characters that file names cannot hold become underscores."""
    return re.sub(r"[^\w.-]+", "_", text)[:80]


def render(page: Page) -> str:
    """The page as HTML; sections without blocks and description are left out."""
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    sections = [section for section in page.sections if section.blocks or section.description]
    return environment.from_string(template).render(page=page, sections=sections)


def write_page(page: Page, path: Path) -> int:
    """Writes the page, whole or not at all. Returns its size in bytes.

    Raises:
        UserError: it would be larger than 20 MB.
    """
    text = render(page)
    size = len(text.encode())
    if size > MAX_BYTES:
        remedy = "reduce --photos"
        raise UserError(f"{path}: would be {size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f}; {remedy}")
    write_text(path, text)
    return size
