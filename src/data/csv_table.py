"""Tables in the challenge's form, and the photos to predict: a table, a list of names or a folder."""

import os
import warnings
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pandas as pd

from src.common.errors import UserError, one_line
from src.data.formats.base import image_path, read_text
from src.data.image_io import SUFFIXES
from src.data.sample import Sample


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
    _refuse_same_columns(head.iloc[0].str.strip().tolist(), path)
    for column in columns:
        if column not in table.columns:
            raise UserError(f"{path}: has no column {column} (it has {', '.join(table.columns)}); add it")
    if table.empty:
        raise UserError(f"{path}: has no rows below its header")
    return table.fillna("")  # short rows


def _refuse_same_columns(columns: list[str], path: Path) -> None:
    for column in filter(None, columns):
        if columns.count(column) > 1:
            raise UserError(f"{path}: has {columns.count(column)} columns {column}; rename or remove all but one")


def row_label(index: int) -> str:
    """How a message names the row at an index: the header is row 1, as in a spreadsheet."""
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
    """Each row's photo: img_path relative to the table's folder or, where that is empty, a photo of that name."""
    given = table["img_path"].str.strip().str.replace("\\", "/").tolist() if "img_path" in table else [""] * len(names)
    known = {} if all(given) else index_images(folder)
    default = folder / "test" if (folder / "test").is_dir() else folder
    return [
        image_path(folder, path) if path else known.get(name, default / f"{name}.jpg")
        for name, path in zip(names, given, strict=True)
    ]


def index_images(folder: Path) -> dict[str, Path]:
    """Photos in a folder and the folders right below it, by file name and by file name without suffix.

    Where two share a name, `test` goes before the folder itself, and that before the others.
    """
    below = sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())
    order = [folder / "test", folder, *(path for path in below if path.name != "test")]
    found: dict[str, Path] = {}
    for place in order:
        files = sorted(entry.name for entry in os.scandir(place)) if place.is_dir() else []
        photos = [file for file in files if file.lower().endswith(SUFFIXES)]
        for file in photos:
            found.setdefault(file, place / file)
        for file in photos:
            found.setdefault(os.path.splitext(file)[0], place / file)  # noqa: PTH122
    return found


def read_image_list(path: Path) -> list[Sample]:
    """The photos to predict, in the table's order, without labels.

    Args:
        path: a CSV with img_name and perhaps img_path (test.csv, sample_submission.csv: photos without img_path are
            looked for beside it and one folder below), a .txt with a photo's name on each line, or a folder: all
            photos in and below it, sorted, named by their path within it.

    Raises:
        UserError: nothing there, no photos, a name that stands there twice.
    """
    path = Path(path)
    if path.is_dir():
        samples = [Sample(file, file.relative_to(path).as_posix(), path.resolve().name) for file in sorted(_walk(path))]
    elif path.suffix == ".txt":
        samples = _read_list(path)
    else:
        table = read_table(path, ["img_name"])
        names = image_names(table, path)
        paths = image_paths(table, names, path.parent)
        samples = [Sample(file, name, path.stem) for name, file in zip(names, paths, strict=True)]
    if not samples:
        raise UserError(f"{path}: holds no photos; known suffixes are {' '.join(SUFFIXES)}")
    _refuse_twice([sample.name for sample in samples], path)
    return samples


def _walk(folder: Path) -> Iterator[Path]:
    for place, _, files in os.walk(folder):
        yield from (Path(place, file) for file in files if file.lower().endswith(SUFFIXES) and file[0] != ".")


def _read_list(path: Path) -> list[Sample]:
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    known = index_images(path.parent)
    return [Sample(known.get(name, path.parent / name), name, path.stem) for name in names]


def _refuse_twice(names: list[str], path: Path) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            rows = f"{row_label(first[name])} and {row_label(index)}"
            raise UserError(f"{path}: {rows} both name the photo {name}; a submission has one row a photo, remove one")
        first[name] = index
