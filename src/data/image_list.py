"""The images to predict: a table, a list of names or a folder, in a sample submission's order."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from src.common.errors import UserError
from src.data.sample import Sample

if TYPE_CHECKING:
    pass


def find_images(data: str, images: str = "", sample: str = "") -> list[Sample]:
    """The photos to answer, in the sample submission's order.

    Args:
        data: a table, a list of names or a folder.
        images: the folder of the photos; empty: as the table says.
        sample: the sample submission; empty: sample_submission.csv beside the table, if it names the same photos.

    Raises:
        UserError: nothing there, or the sample names a photo that is not among them.
    """
    from src.data.csv_table import index_images, read_image_list

    if not data:
        raise UserError("--data: name a table such as test.csv, a list of photo names or a folder of photos")
    table = Path(data)
    samples = read_image_list(table)
    if images:
        folder = Path(images)
        if not folder.is_dir():
            raise UserError(f"--images: {folder} is no folder; name the one that holds the photos")
        known = index_images(folder)
        samples = [replace(one, path=known.get(one.name, folder / one.name)) for one in samples]
    beside = table.parent / "sample_submission.csv"
    if sample:
        names = [one.name for one in read_image_list(Path(sample))]
        return in_sample_order(samples, names, sample, index_images(table) if table.is_dir() else {})
    if table.suffix == ".csv" and beside.is_file():
        names = [one.name for one in read_image_list(beside)]
        if set(names) == {one.name for one in samples}:
            return in_sample_order(samples, names, str(beside))
        print(f"{beside}: names other photos than {data}; rows keep the order of {data}", file=sys.stderr)
    return samples


def in_sample_order(
    samples: list[Sample], names: list[str], where: str, also: dict[str, Path] | None = None
) -> list[Sample]:
    """The samples that a sample submission names, in its order.

    Args:
        samples: the photos.
        names: in the sample submission.
        where: the sample submission.
        also: what else photos are called, such as their names without suffix: name -> path.

    Raises:
        UserError: it names a photo that is not among them.
    """
    paths = {one.path: one for one in samples}
    known = {name: replace(paths[path], name=name) for name, path in (also or {}).items() if path in paths}
    known |= {one.name: one for one in samples}
    if lost := [name for name in names if name not in known]:
        raise UserError(f"{where}: names {len(lost)} photos that --data lacks, such as {lost[0]}; check both")
    chosen = [known[name] for name in names]
    if over := len(paths.keys() - {one.path for one in chosen}):
        print(f"{where}: does not name {over} of the photos; they are left out", file=sys.stderr)
    return chosen
