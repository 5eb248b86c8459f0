"""A model's predictions as labels of further training photos: a submission's table (img_name, mos, comments).

Its photos are in no part but train; a photo whose copy is held out is left out.
"""

from pathlib import Path

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data.csv_table import image_names, index_images, read_table
from src.data.formats.base import source_folder, source_name
from src.data.formats.samsung import read_mos, rows_by_name
from src.data.sample import Sample
from src.data.split import TRAIN_ONLY as TRAIN_PART

TRAIN_ONLY = True  # no part of the data to score by


def read_samples(source: SourceConfig) -> list[Sample]:
    """One sample for each photo of the table, with its first row's mos and comment, either of which may be empty.

    Raises:
        UserError: no table is named or found, a column is missing, a mos is no number, or a photo has several rows.
    """
    folder, path = source_folder(source), _predictions_file(source)
    table = read_table(path, ["img_name"])
    names, images = image_names(table, path), index_images(folder)
    mos = read_mos(table, path)
    comments = table["comments"].str.strip().tolist() if "comments" in table else [""] * len(names)
    samples = []
    for name, rows in rows_by_name(names).items():
        if len(rows) > 1:
            raise UserError(f"{path}: photo {name} has {len(rows)} rows; give the predictions of one model or blend")
        image = images.get(name, folder / f"{name}.jpg")
        samples.append(Sample(image, name, source_name(source), mos[rows[0]], (comments[rows[0]],)))
    return samples


def official_split(source: SourceConfig) -> dict[str, str]:
    """All photos: for training only."""
    return {sample.name: TRAIN_PART for sample in read_samples(source)}


def _predictions_file(source: SourceConfig) -> Path:
    """The table that `captions` names, relative to the current folder or to the source's own."""
    for path in (Path(source.captions), Path(source.path) / source.captions):
        if path.is_file():
            return path
    where = f"data source {source_name(source)}"
    raise UserError(
        f"{where}: no predictions {source.captions or '(none named)'}; name the table with the key `captions`"
    )
