"""CSV tables: rows of any usual dialect, and tables in the challenge's form, whose column img_name names the images."""

import csv
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from src.common.errors import UserError
from src.data.formats.base import image_path, read_text
from src.data.image_folder import is_hidden
from src.data.image_io import SUFFIXES

DELIMITERS = ",\t;|"
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")  # str.splitlines would end a line at \u2028, too


@dataclass(frozen=True)
class CsvRows:
    """A CSV file's text.

    Attributes:
        header: names of the columns, stripped.
        rows: below the header, without blank lines; their numbers of fields may differ.
        separator: the text between two fields.
    """

    header: list[str]
    rows: list[list[str]]
    separator: str


def read_rows(text: str, path: Path, columns: Collection[str]) -> CsvRows:
    """A CSV text whose fields are separated by comma, tab, semicolon or pipe, every value a string as written.

    Args:
        text: the file's text.
        path: the file, for messages.
        columns: names of columns, in small letters: the separator is the one that finds most of them in the header.

    Raises:
        UserError: as parse_rows.
    """
    text = text.lstrip("\r\n")
    headers = {delimiter: _first_row(text, delimiter) for delimiter in DELIMITERS}
    delimiter = max(
        headers, key=lambda key: (len(set(map(column_key, headers[key])) & set(columns)), len(headers[key]))
    )
    spaced = f"{delimiter} " in next(_lines(text), "")
    try:
        rows = parse_rows(text, path, delimiter, spaced)
    except UserError:
        # Files with tabs or pipes seldom quote: there a quote at the start of a caption may be a part of it.
        if delimiter in ",;" or text.startswith('"') or '""' in text:
            raise
        rows = parse_rows(text, path, delimiter, spaced, csv.QUOTE_NONE)
    header, *rest = [row for row in rows if row] or [[]]
    return CsvRows([name.strip() for name in header], rest, delimiter + " " * spaced)


def column_key(name: str) -> str:
    """A column's name in small letters, with underscores: `Image Name` is image_name."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _first_row(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(_lines(text), delimiter=delimiter), [])
    except csv.Error:
        return []


def _lines(text: str) -> Iterator[str]:
    return (match[0] for match in LINE.finditer(text))


def parse_rows(
    text: str, path: Path, delimiter: str = ",", spaced: bool = False, quoting: int = csv.QUOTE_MINIMAL
) -> list[list[str]]:
    """All rows of a CSV text, the header first.

    Args:
        text: the file's text.
        path: the file, for messages.
        delimiter: between two fields.
        spaced: drops spaces after it.
        quoting: csv's constant.

    Raises:
        UserError: a quote that is not closed, text after a closing quote, or a field beyond csv's limit.
    """
    rows: list[list[str]] = []
    lines = csv.reader(_lines(text), delimiter=delimiter, skipinitialspace=spaced, quoting=quoting, strict=True)  # type: ignore[arg-type]
    try:
        for row in lines:
            rows.append(row)
    except csv.Error as error:
        where = f"{path}: {row_label(len(rows) - 1)}"
        remedy = "close its quotes, double those inside a text, and shorten longer texts"
        raise UserError(f"{where} is not valid CSV ({error}); {remedy}") from error
    return rows


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """A CSV file, every value a string as written: 0213074526 and 1e5 stay what they are, empty stays empty.

    Args:
        path: the file, see read_rows.
        columns: columns that it must have.

    Raises:
        UserError: missing file or column, two columns of one name, undecodable text, rows with more fields than the
            header, no rows.
    """
    table = read_rows(read_text(path), path, columns)
    header, width = table.header, len(table.header)
    if twice := next((column for column in header if column and header.count(column) > 1), ""):
        raise UserError(f"{path}: has {header.count(twice)} columns {twice}; rename or remove all but one")
    for column in columns:
        if column not in header:
            raise UserError(f"{path}: has no column {column} (it has {', '.join(header)}); add it")
    if not table.rows:
        raise UserError(f"{path}: has no rows below its header")
    for index, row in enumerate(table.rows):
        if any(row[width:]):
            raise UserError(f"{path}: {row_label(index)} has more fields than the header; quote texts with commas")
    rows = [row[:width] + [""] * (width - len(row)) if len(row) != width else row for row in table.rows]
    return pd.DataFrame(rows, columns=header, dtype=str)


def row_label(index: int) -> str:
    """The name of the row at an index: the header is row 1, as in a spreadsheet."""
    return f"row {index + 2}"


def image_names(table: pd.DataFrame, path: Path) -> list[str]:
    """The column img_name.

    Raises:
        UserError: a name is empty.
    """
    names = table["img_name"].tolist()
    if empty := [index for index, name in enumerate(names) if not name.strip()]:
        raise UserError(f"{path}: {row_label(empty[0])} has no img_name; fill it in or remove the row")
    return names


def image_paths(table: pd.DataFrame, names: list[str], folder: Path) -> list[Path]:
    """Each row's image: img_path relative to the table's folder or, where that is empty, an image of that name."""
    given = table["img_path"].str.strip().str.replace("\\", "/").tolist() if "img_path" in table else [""] * len(names)
    known = {} if all(given) else index_images(folder)
    default = folder / "test" if (folder / "test").is_dir() else folder
    return [
        image_path(folder, path) if path else known.get(name, default / f"{name}.jpg")
        for name, path in zip(names, given, strict=True)
    ]


def index_images(folder: Path) -> dict[str, Path]:
    """Images in a folder and the folders right below it, by file name, with and without suffix or folder.

    Where two share a name, `test` goes before the folder itself, and that before the others.
    """
    below = sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))
    order = [folder / "test", folder, *(path for path in below if path.name != "test")]
    paths: dict[str, Path] = {}
    for place in order:
        files = sorted(entry.name for entry in os.scandir(place)) if place.is_dir() else []
        images = [file for file in files if file.lower().endswith(SUFFIXES) and not is_hidden(file)]
        stems = [(os.path.splitext(file)[0], file) for file in images]  # noqa: PTH122
        for name, file in [*zip(images, images, strict=True), *stems]:
            paths.setdefault(name, place / file)
            if place != folder:
                paths.setdefault(f"{place.name}/{name}", place / file)
    return paths
