"""Tables in the challenge's form: CSV files whose column img_name names the images."""

import os
import warnings
from io import StringIO
from pathlib import Path

import pandas as pd

from src.common.errors import UserError, one_line
from src.data.formats.base import image_path, read_text
from src.data.image_io import SUFFIXES


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """A CSV file, every value a string as written: 0213074526 and 1e5 stay what they are, empty stays empty.

    Args:
        path: the file, UTF-8 or cp949.
        columns: columns that it must have.

    Raises:
        UserError: missing file or column, two columns of one name, undecodable text, rows of unequal length, no rows.
    """
    text = read_text(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            head = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False, header=None, nrows=1)
            table = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False, index_col=False)
    except pd.errors.ParserWarning as error:
        raise UserError(f"{path}: {row_label(0)} has more fields than the header; quote texts with commas") from error
    except ValueError as error:
        raise UserError(f"{path}: not a valid CSV table ({one_line(error)}); quote texts with commas") from error
    table.columns = table.columns.str.strip()
    header = head.iloc[0].str.strip().tolist()
    if twice := next((column for column in header if column and header.count(column) > 1), ""):
        raise UserError(f"{path}: has {header.count(twice)} columns {twice}; rename or remove all but one")
    for column in columns:
        if column not in table.columns:
            raise UserError(f"{path}: has no column {column} (it has {', '.join(table.columns)}); add it")
    if table.empty:
        raise UserError(f"{path}: has no rows below its header")
    return table.fillna("")  # short rows


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
    """Images in a folder and the folders right below it, by file name and by file name without suffix.

    Where two share a name, `test` goes before the folder itself, and that before the others.
    """
    below = sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())
    order = [folder / "test", folder, *(path for path in below if path.name != "test")]
    paths: dict[str, Path] = {}
    for place in order:
        files = sorted(entry.name for entry in os.scandir(place)) if place.is_dir() else []
        images = [file for file in files if file.lower().endswith(SUFFIXES)]
        for file in images:
            paths.setdefault(file, place / file)
        for file in images:
            paths.setdefault(os.path.splitext(file)[0], place / file)  # noqa: PTH122
    return paths
