"""A report as one HTML file that needs nothing else: sections of tables, figures, photos and text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from src.common.errors import UserError
from src.common.files import write_text
from src.reporting.images import figure_png, png_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIMIT = 20_000_000  # bytes of a page


@dataclass
class Table:
    """Rows of cells below a head; the first column names the rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = "table"


@dataclass
class Text:
    """Text as it stands."""

    text: str
    kind: str = "text"


@dataclass
class Picture:
    """A figure.

    Attributes:
        name: of its PNG file.
        title: what it shows.
        png: the figure.
        points: (x, y, photo) of points to hover: parts of width and height from the top left, number in Page.photos.
    """

    name: str
    title: str
    png: bytes
    points: list[tuple[float, float, int]] = field(default_factory=list)
    kind: str = "picture"

    @property
    def uri(self) -> str:
        """The picture within the page."""
        return png_uri(self.png)


@dataclass
class GalleryPhoto:
    """A photo of a gallery: its picture as data URI, a title, what is said of it below."""

    uri: str
    title: str
    caption: str = ""
    references: Sequence[str] = ()


@dataclass
class Gallery:
    """Photos side by side."""

    title: str
    photos: Sequence[GalleryPhoto]
    kind: str = "gallery"


Block = Table | Text | Picture | Gallery


@dataclass
class Section:
    """A part of the page: what it is about, in a sentence or two, and its blocks."""

    title: str
    about: str = ""
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Page:
    """A report.

    Attributes:
        title: of the page.
        about: lines below the title.
        sections: in their order; those without blocks and text are left out.
        photos: (data URI, label) of what points of pictures are.
    """

    title: str
    about: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    photos: list[tuple[str, str]] = field(default_factory=list)

    def pictures(self) -> list[Picture]:
        """All figures."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]


def make_picture(name: str, title: str, figure: "Figure") -> Picture:
    """A figure as a block; of its name, what may not stand in a file's name becomes an underscore."""
    return Picture(file_name(name), title, figure_png(figure))


def file_name(text: str) -> str:
    """A text as the name of a file."""
    return re.sub(r"[^\w.-]+", "_", text)[:80]


def render(page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, StrictUndefined

    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    sections = [section for section in page.sections if section.blocks or section.about]
    return environment.from_string(template).render(page=page, sections=sections)


def write_page(page: Page, path: Path) -> int:
    """Writes the page, whole or not at all. Returns its size in bytes.

    Raises:
        UserError: it would be larger than 20 MB.
    """
    text = render(page)
    size = len(text.encode())
    if size > LIMIT:
        raise UserError(f"{path}: would be {size / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}; ask for fewer --photos")
    write_text(path, text)
    return size
