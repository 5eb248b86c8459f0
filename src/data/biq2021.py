"""BIQ2021 (Ahmed and Asif 2022, https://arxiv.org/abs/2202.03879): its download in the challenge's layout.

Whole, with the split of its two tables, or the part of it that docs/results.md measures (samsung_like.json lists it).
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

import pandas as pd
from jsonargparse import Namespace

from src.common.errors import UserError
from src.common.files import check_output_parent
from src.common.progress import progress_bar
from src.config.cli import make_parser
from src.data.csv_table import read_table, row_label
from src.data.formats.base import folder_levels
from src.data.formats.samsung import read_mos

TABLES = {"train": "Train (Images and MOS).csv", "test": "Test (Images and MOS).csv"}
SUBSET = Path(__file__).with_name("samsung_like.json")
OUTPUTS = {"all": "data/biq2021", "samsung_like": "data/real/samsung_like"}  # by subset


@dataclass(frozen=True)
class RatedImage:
    """An image of BIQ2021.

    Attributes:
        path: its file.
        mos: ten times BIQ2021's, so 0 to 10.
        part: train or test.
    """

    path: Path
    mos: float
    part: str


def parse_biq2021_options(args: Sequence[str]) -> Namespace:
    """from, subset and output; where output is not given, that of the subset."""
    about = "Turns BIQ2021's own download into the challenge's layout, with a fixed split."
    parser = make_parser("prepare biq2021", about, config=False)
    parser.add_argument("--from", type=str, required=True, help="the folder with Images/ and the two CSV tables")
    parser.add_argument(
        "--subset",
        choices=list(OUTPUTS),
        default="all",
        help="all 12,000 photos by BIQ2021's own split, or the 2,600 + 500 of docs/results.md",
    )
    parser.add_argument("--output", type=str, help=f"a new folder for it; {' or '.join(OUTPUTS.values())} if not given")
    options = parser.parse_args(args)
    options.output = options.output or OUTPUTS[options.subset]
    return options


def convert_biq2021(options: Namespace) -> str:
    """Writes the tables of the challenge, test_answers.csv and copies of the images, whole or not at all.

    Args:
        options: from, the unpacked archive; subset, all or samsung_like; output, a new folder.

    Returns:
        Lines for people: what the output holds, and the next command.

    Raises:
        UserError: the output exists, or the download lacks a table, a column or images.
    """
    download, output = Path(options["from"]), Path(options.output)
    if output.exists():
        raise UserError(f"{output}: is there already; delete it, or name another with --output")
    images = read_images(download)
    if options.subset != "all":
        images = _subset_images(images, download)
    check_output_parent(output)
    part = output.with_name(f".{output.name}.partial")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write_layout(part, dict(sorted(images.items())))
        part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    counts = Counter(image.part for image in images.values())
    state = f"wrote {output}: {counts['train']:,} photos with mos, and {counts['test']:,} to predict"
    return f"{state}\nnext: python -m src.prepare check --folder {quote(str(output))}"


def read_images(download: Path) -> dict[str, RatedImage]:
    """The images by the name that they get: `ss01 (10).jpg` becomes ss01_10.

    Raises:
        UserError: a table, a column or an image is missing, or an image is named twice.
    """
    folder = next((place / "Images" for place in _places(download) if (place / "Images").is_dir()), None)
    if folder is None:
        raise UserError(f"{download}: has no folder Images; name the folder of BIQ2021's download with --from")
    images: dict[str, RatedImage] = {}
    for part in TABLES:
        path = _find_table(download, part)
        for name, mos in _rows(path):
            if images.setdefault(_new_name(name), image := RatedImage(folder / name, mos, part)) is not image:
                raise UserError(f"{path}: {name} is named twice in BIQ2021's tables; remove one row")
    if missing := [image.path for image in images.values() if not image.path.is_file()]:
        raise UserError(f"{folder}: lacks {len(missing):,} images of the tables, {missing[0].name} for one; copy them")
    return images


def subset_parts() -> dict[str, str]:
    """train or test by the name of each image of samsung_like."""
    parts = json.loads(SUBSET.read_text(encoding="utf-8"))
    return {
        f"{group}_{number}": part
        for part, groups in parts.items()
        for group, numbers in groups.items()
        for number in numbers
    }


def _subset_images(images: Mapping[str, RatedImage], download: Path) -> dict[str, RatedImage]:
    parts = subset_parts()
    if missing := [name for name in parts if name not in images]:
        raise UserError(f"{download}: lacks {len(missing):,} images of samsung_like, {missing[0]} for one; copy them")
    return {name: replace(images[name], part=part) for name, part in parts.items()}


def _places(download: Path) -> list[Path]:
    if not download.is_dir():
        raise UserError(f"{download}: no such folder; name the folder of BIQ2021's download with --from")
    return [place for level in folder_levels(download, 1) for place in level]


def _find_table(download: Path, part: str) -> Path:
    """The table of a part: the CSV file whose name begins with Train or Test."""
    for place in _places(download):
        if paths := sorted(path for path in place.glob("*.csv") if path.name.lower().startswith(part)):
            return paths[0]
    raise UserError(f"{download}: has no {TABLES[part]}; copy it there from BIQ2021's download")


def _rows(path: Path) -> Iterator[tuple[str, float]]:
    """(image's file name, mos times ten) of each row.

    Raises:
        UserError: a column is missing, or a mos is not within 0 and 1.
    """
    table = read_table(path, [])
    table.columns = table.columns.str.lower().str.replace(" ", "_")
    for column in ("image_name", "mos"):
        if column not in table:
            raise UserError(f"{path}: has no column {column} (it has {', '.join(table.columns)}); add it")
    for index, (name, mos) in enumerate(zip(table["image_name"], read_mos(table, path), strict=True)):
        if mos is None or not 0 <= mos <= 1:
            raise UserError(f"{path}: {row_label(index)}: the MOS is not within 0 and 1; correct it")
        yield name.strip(), 10 * mos


def _new_name(file: str) -> str:
    return re.sub(r"[\s()]+", "_", Path(file).stem).strip("_")


def _write_layout(folder: Path, images: Mapping[str, RatedImage]) -> None:
    for part in TABLES:
        (folder / part).mkdir(parents=True)
    rows: dict[str, list[tuple[str, str, str, str]]] = {part: [] for part in TABLES}
    with progress_bar(len(images), "copying photos") as bar:
        for name, image in images.items():
            file = f"{image.part}/{name}{image.path.suffix}"
            shutil.copyfile(image.path, folder / file)
            rows[image.part].append((name, f"./{file}", f"{image.mos:.8f}", ""))
            bar.update()
    columns = ["img_name", "img_path", "mos", "comments"]
    train, test = (pd.DataFrame(rows[part], columns=columns) for part in TABLES)
    sample = test[["img_name"]].assign(mos="0", comments="nice picture.")
    tables = {"train": train, "test": test[columns[:2]], "sample_submission": sample, "test_answers": test}
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, encoding="utf-8", lineterminator="\n")
