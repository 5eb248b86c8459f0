"""The images to predict: a table, a list of names or a folder, in a sample submission's order."""

import sys
from dataclasses import replace
from pathlib import Path

from src.common.errors import UserError
from src.data.csv_table import image_names, image_paths, index_images, read_table, row_label
from src.data.formats.base import folder_levels, read_text
from src.data.image_folder import describe_left_out, list_images
from src.data.image_io import SUFFIXES
from src.data.sample import Sample


def find_images(data: str, images: str = "", sample: str = "") -> list[Sample]:
    """The images to predict, in the sample submission's order.

    Args:
        data: a table, a list of names or a folder.
        images: the folder of the images; empty: as the table says.
        sample: the sample submission; empty: sample_submission.csv beside the table, if it names the same images.

    Raises:
        UserError: there are no images, or the sample submission names one that is not among them.
    """
    if not data:
        raise UserError("--data: name a table such as test.csv, a list of photo names or a folder of photos")
    table = nearest_table(Path(data))
    samples = read_image_list(table)
    if images:
        samples = _in_folder(samples, Path(images))
    beside = table.parent / "sample_submission.csv"
    if sample:
        names = [entry.name for entry in read_image_list(Path(sample))]
        return in_sample_order(samples, names, sample, index_images(table) if table.is_dir() else {})
    if table.suffix == ".csv" and beside.is_file():
        names = [entry.name for entry in read_image_list(beside)]
        if set(names) == {image.name for image in samples}:
            return in_sample_order(samples, names, str(beside))
        print(f"{beside}: names other photos than {data}; rows keep the order of {data}", file=sys.stderr)
    return samples


def read_image_list(path: Path) -> list[Sample]:
    """The images to predict, in the table's order, without labels.

    Args:
        path: a CSV with img_name and perhaps img_path (test.csv, sample_submission.csv: images without img_path are
            searched beside it and one folder below), a .txt with an image's name on each line, or a folder: all
            images in and below it but hidden ones, sorted, named by their path within it.

    Raises:
        UserError: no such file, no images, a name that is there twice.
    """
    if path.is_dir():
        samples = _folder_samples(path)
    else:
        if path.suffix == ".txt":
            names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
            known = index_images(path.parent)
            files = [known.get(name, path.parent / name) for name in names]
        else:
            table = read_table(path, ["img_name"])
            names = image_names(table, path)
            files = image_paths(table, names, path.parent)
        samples = [Sample(file, name, path.stem) for name, file in zip(names, files, strict=True)]
    if not samples:
        raise UserError(f"{path}: holds no photos; known suffixes are {' '.join(SUFFIXES)}")
    _refuse_twice([sample.name for sample in samples], path)
    return samples


def nearest_table(path: Path) -> Path:
    """The path or, where nothing is there, a file of its name one folder below: archives unpack into open/."""
    if path.exists() or not path.parent.is_dir():
        return path
    files = [place / path.name for place in [*folder_levels(path.parent, 1)][1] if (place / path.name).is_file()]
    return files[0] if len(files) == 1 else path


def in_sample_order(
    samples: list[Sample], names: list[str], where: str, aliases: dict[str, Path] | None = None
) -> list[Sample]:
    """The samples that a sample submission names, in its order.

    Args:
        samples: the images.
        names: in the sample submission.
        where: the sample submission.
        aliases: other names of images, such as those without suffix: name -> path.

    Raises:
        UserError: it names an image that is not among them.
    """
    paths = {sample.path: sample for sample in samples}
    known = {name: replace(paths[path], name=name) for name, path in (aliases or {}).items() if path in paths}
    known |= {sample.name: sample for sample in samples}
    if lost := [name for name in names if name not in known]:
        raise UserError(f"{where}: names {len(lost)} photos that --data lacks, such as {lost[0]}; check both")
    chosen = [known[name] for name in names]
    if unnamed := len(paths.keys() - {sample.path for sample in chosen}):
        print(f"{where}: does not name {unnamed} of the photos; they are left out", file=sys.stderr)
    return chosen


def _in_folder(samples: list[Sample], folder: Path) -> list[Sample]:
    """The samples with the files of a folder."""
    if not folder.is_dir():
        raise UserError(f"--images: {folder} is no folder; name the one that holds the photos")
    known = index_images(folder)
    return [replace(sample, path=known.get(sample.name, folder / sample.name)) for sample in samples]


def _folder_samples(folder: Path) -> list[Sample]:
    """The images in and below a folder; the number and kinds of other files go to stderr."""
    images, left_out = list_images(folder)
    if left_out:
        print(f"{folder}: left out {describe_left_out(left_out)}", file=sys.stderr)
    return [Sample(file, file.relative_to(folder).as_posix(), folder.resolve().name) for file in images]


def _refuse_twice(names: list[str], path: Path) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            rows = f"{row_label(first[name])} and {row_label(index)}"
            raise UserError(f"{path}: {rows} both name the photo {name}; a submission has one row a photo, remove one")
        first[name] = index
