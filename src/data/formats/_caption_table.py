"""Caption tables: CSV files with a header, a row a caption, or all captions of an image as a list in one row.

Held by tests/data/formats/test_caption_table.py.
"""

import ast
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from src.common.errors import UserError
from src.data.csv_table import CsvRows, column_key, read_rows, row_label

# Names of columns in small letters, the likeliest first.
IMAGE = "image image_name img_name filename file_name file image_path img_path filepath file_path image_id img".split()
CAPTION = "caption comment text raw captions comments description sentence".split()
SPLIT = ["split"]


class CaptionRow(NamedTuple):
    """A row of a caption table.

    Attributes:
        name: the image's, as written.
        captions: its captions.
        part: the value of the column split; empty without such a column.
        label: the row, for messages.
    """

    name: str
    captions: list[str]
    part: str
    label: str


def caption_rows(text: str, path: Path) -> Iterator[CaptionRow]:
    """The rows of a caption table's text. Columns that are neither image nor caption nor split are left alone.

    Raises:
        UserError: a column is missing or there twice, or a row does not fit the header.
    """
    table = read_rows(text, path, [*IMAGE, *CAPTION])
    keys = [column_key(name) for name in table.header]
    image, caption = _find_column(keys, IMAGE, path), _find_column(keys, CAPTION, path)
    split = _find_column(keys, SPLIT, path) if "split" in keys else None
    numbers = keys.index("comment_number") if "comment_number" in keys else None
    _refuse_narrow_header(table, path)
    for index, row in enumerate(table.rows):
        label = row_label(index)
        fields = _fit(row, len(keys), caption, numbers, table.separator)
        if fields is None or not (name := fields[image].strip()):
            about = f"has {len(row)} fields, the header {len(keys)}" if fields is None else f"has no {keys[image]}"
            raise UserError(f"{path}: {label} {about}; quote texts with {table.separator!r}, or correct the row")
        part = "" if split is None else fields[split].strip()
        yield CaptionRow(name, split_list(fields[caption].strip()), part, label)


def _find_column(keys: list[str], names: Sequence[str], path: Path) -> int:
    """The index of the column with the likeliest of some names."""
    name = next((name for name in names if name in keys), None)
    if name is None:
        listed = ", ".join(filter(None, keys))
        raise UserError(
            f"{path}: line 1 is neither `photo#0<tab>caption` nor a header with a column {' or '.join(names[:5])} "
            f"(it has {listed}); name the columns there"
        )
    if keys.count(name) > 1:
        raise UserError(f"{path}: has {keys.count(name)} columns {name}; rename or remove all but one")
    return keys.index(name)


def _refuse_narrow_header(table: CsvRows, path: Path) -> None:
    """A caption that is not quoted makes a row too long. All rows too long are another matter."""
    width = len(table.header)
    if len(table.rows) > 1 and all(any(row[width:]) for row in table.rows):
        raise UserError(f"{path}: all rows have more fields than line 1; name every column there")


def _fit(row: list[str], width: int, caption: int, numbers: int | None, separator: str) -> list[str] | None:
    """A row with as many fields as the header; None where it cannot be told which field is which.

    A caption in the last column may hold separators, quoted or not. Flickr30k's results.csv has a row whose second
    separator is missing (2199200615.jpg| 4   A dog runs across the grass .), and in copies its caption is empty.
    """
    if not any(row[width:]):
        row = row[:width]
    elif caption == width - 1:
        row = [*row[:caption], separator.join(row[caption:])]
    glued = re.fullmatch(r"\s*(\d+)\s+(\S.*)", row[numbers]) if numbers is not None and len(row) > numbers else None
    if glued and numbers == caption - 1 and not any(row[caption:]):
        row = [*row[:numbers], *glued.groups(), *row[caption + 1 :]]
    return row if len(row) == width else None


def split_list(text: str) -> list[str]:
    """The captions of a field: the text, or the texts of a list in json or Python, as Flickr30k's annotations have."""
    if not text.startswith("["):
        return [text]
    for parse in (json.loads, ast.literal_eval):
        try:
            captions = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(captions, list) and all(isinstance(caption, str) for caption in captions):
            return [caption.strip() for caption in captions]
    return [text]
