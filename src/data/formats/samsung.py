"""The Samsung AI Challenge's layout: train.csv (img_name, img_path, mos, comments), one row a comment."""

import math
from pathlib import Path

import pandas as pd

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data.csv_table import image_names, image_paths, index_images, read_table, row_label
from src.data.formats.base import find_file, find_folder, image_path, is_missing, source_folder, source_name
from src.data.sample import Sample
from src.data.validation_report import DataProblem

CHALLENGE = True  # submissions are written in the style of its comments
LARGEST = 1e15  # a sum of many squares of such mos is finite in float32


def read_samples(source: SourceConfig) -> list[Sample]:
    """One sample an image, in the order of first rows: all its comments, and the mean mos of its rows.

    The columns img_path, mos and comments may be missing or empty.

    Raises:
        UserError: missing table or column img_name, a mos that training cannot compute with, a name with two paths.
    """
    path, table = _read(source)
    names = image_names(table, path)
    images, mos, comments = _paths(table, path.parent, names, source), read_mos(table, path), _comments(table)
    samples = []
    for name, rows in rows_by_name(names).items():
        known = [value for i in rows if (value := mos[i]) is not None]
        if len({images[i] for i in rows}) > 1:
            listed = ", ".join(map(row_label, rows[:5]))
            raise UserError(f"{path}: photo {name} has two paths ({listed}); give each photo its own img_name")
        mean = math.fsum(known) / len(known) if known else None
        captions = tuple(comments[i] for i in rows)
        samples.append(Sample(images[rows[0]], name, source_name(source), mean, captions))
    return samples


def raw_captions(source: SourceConfig) -> dict[str, list[str]]:
    """Each image's comments as they stand in the table, empty ones too."""
    path, table = _read(source)
    comments = _comments(table)
    return {name: [comments[i] for i in rows] for name, rows in rows_by_name(image_names(table, path)).items()}


def find_problems(source: SourceConfig) -> list[DataProblem]:
    """Images whose rows give different mos."""
    rows = [
        f"{name} ({' and '.join(f'{value:g}' for value in mos[:3])})" for name, mos in conflicting_mos(source).items()
    ]
    return [DataProblem.of("photos have rows with different mos", rows, "their mean is used; correct the rows")]


def conflicting_mos(source: SourceConfig) -> dict[str, list[float]]:
    """Images whose rows give different mos, and these, ascending."""
    path, table = _read(source)
    mos = read_mos(table, path)
    values = {
        name: sorted({value for i in rows if (value := mos[i]) is not None})
        for name, rows in rows_by_name(image_names(table, path)).items()
    }
    return {name: known for name, known in values.items() if len(known) > 1}


def _read(source: SourceConfig) -> tuple[Path, pd.DataFrame]:
    """The table with the labels: train.csv, or the file that `captions` names."""
    path = find_file(source_folder(source), source.captions, ["train.csv"], "captions")
    return path, read_table(path, ["img_name"])


def rows_by_name(names: list[str]) -> dict[str, list[int]]:
    """Row indices of each name, in the order of first appearance."""
    rows: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        rows.setdefault(name, []).append(index)
    return rows


def read_mos(table: pd.DataFrame, path: Path) -> list[float | None]:
    """The column mos, None where it is empty.

    Raises:
        UserError: a value is no number, or beyond LARGEST; the row is named.
    """
    if "mos" not in table:
        return [None] * len(table)
    return [_number(text, index, path) for index, text in enumerate(table["mos"].str.strip())]


def _comments(table: pd.DataFrame) -> list[str]:
    return table["comments"].str.strip().tolist() if "comments" in table else [""] * len(table)


def _number(text: str, index: int, path: Path) -> float | None:
    if is_missing(text):
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        remedy = "correct it or leave it empty"
        raise UserError(f"{path}: {row_label(index)}: mos {text!r} is no number within {LARGEST:g} of 0; {remedy}")
    return value


def _paths(table: pd.DataFrame, folder: Path, names: list[str], source: SourceConfig) -> list[Path]:
    if source.images:
        folder = find_folder(source_folder(source), source.images, [], "images")
        if "img_path" in table and table["img_path"].str.strip().all():
            # The named folder holds the files, wherever the table says they are.
            return [image_path(folder, Path(path.replace("\\", "/")).name) for path in table["img_path"]]
    elif "img_path" not in table and (folder / "train").is_dir():
        folder = folder / "train"
    else:
        return image_paths(table, names, folder)
    known = index_images(folder)
    return [known.get(name, folder / f"{name}.jpg") for name in names]
