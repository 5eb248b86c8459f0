"""Predictions for images that a model was not trained on: a run's for its validation part, a group's out of fold.

Notation: P images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.tracking.finished_runs import GROUP, read_group, read_json
from src.tracking.run_group import OOF, OOF_COLUMNS, read_oof, read_oof_file

PREDICTIONS = "answers.json"  # in a run's folder: predictions for its validation images
BLEND_SUFFIX = ".oof.csv"  # of the table beside a submission: predictions of its blend
Image = tuple[str, str]
"""Source and name of an image."""


@dataclass
class HeldOutPredictions:
    """Predictions beside the truth.

    Attributes:
        images: P, each of them once.
        mos: [P] predicted, a mean over a group's seeds; NaN without a mos head.
        mos_true: [P] NaN where unknown.
        captions: P, those of a group's first seed; empty without a decoder.
        references: P lists, empty where unknown.
    """

    images: list[Image]
    mos: np.ndarray
    mos_true: np.ndarray
    captions: list[str]
    references: list[list[str]]

    @property
    def rated(self) -> list[Image]:
        """The images with a predicted and a true mos."""
        known = np.isfinite(self.mos) & np.isfinite(self.mos_true)
        return [image for image, has_mos in zip(self.images, known, strict=True) if has_mos]

    def select(self, images: Sequence[Image]) -> "HeldOutPredictions":
        """Some of the images, in this order."""
        rows = {image: row for row, image in enumerate(self.images)}
        chosen = [rows[image] for image in images]
        return HeldOutPredictions(
            list(images),
            self.mos[chosen],
            self.mos_true[chosen],
            [self.captions[row] for row in chosen],
            [self.references[row] for row in chosen],
        )


def read_held_out(folder: Path) -> HeldOutPredictions | None:
    """Those of a run's or group's folder; None where it has none.

    Raises:
        UserError: the table of a group is damaged.
    """
    if (folder / OOF).is_file():
        runs = [folder.parent / name for name in read_group(folder).members] if (folder / GROUP).is_file() else []
        return from_oof(
            read_oof(folder), {image: texts for run in runs for image, texts in run_references(run).items()}
        )
    columns = read_json(folder / PREDICTIONS)
    return from_columns(columns) if columns.get("names") else None  # a run on all images has none


def read_blend(path: Path) -> HeldOutPredictions:
    """Those of a blend's table, see `blend_table`. Raises UserError where it is damaged."""
    return from_oof(read_oof_file(path, "blend the models again"), {})


def from_columns(columns: Mapping[str, Any]) -> HeldOutPredictions:
    """Those of `Predictions` as a mapping; of an image that is there twice, the first."""
    images = list(zip(columns["sources"], columns["names"], strict=True))
    held_out = HeldOutPredictions(
        images,
        np.array(columns["mos"], dtype=np.float64),
        np.array(columns["mos_true"], dtype=np.float64),
        columns["captions"],
        columns["references"],
    )
    return held_out if len(set(images)) == len(images) else held_out.select(list(dict.fromkeys(images)))


def from_oof(table: pd.DataFrame, references: Mapping[Image, list[str]]) -> HeldOutPredictions:
    """Those of a table with a row for each image and seed."""
    grouped = table.groupby(["source", "img_name"], sort=False)
    columns = grouped.agg({"mos": "mean", "mos_true": "first", "comments": "first"})
    images = list(columns.index)
    return HeldOutPredictions(
        images,
        columns["mos"].to_numpy(np.float64),
        columns["mos_true"].to_numpy(np.float64),
        columns["comments"].tolist(),
        [list(references.get(image, [])) for image in images],
    )


def pool_held_out(parts: Sequence[HeldOutPredictions]) -> HeldOutPredictions:
    """The mean mos of several models' predictions, for the images that most of the models hold out; no captions."""
    columns = [(*image, mos, true) for p in parts for image, mos, true in zip(p.images, p.mos, p.mos_true, strict=True)]
    table = pd.DataFrame(columns, columns=["source", "img_name", "mos", "mos_true"]).dropna(subset="mos")
    grouped = table.groupby(["source", "img_name"], sort=False)
    counts = grouped.size()
    pooled = grouped.agg({"mos": "mean", "mos_true": "first"})[counts == counts.max()].assign(comments="")
    return from_oof(pooled.reset_index(), {})


def run_references(folder: Path) -> dict[Image, list[str]]:
    """The captions, as written by people, of a run's validation images."""
    columns = read_json(folder / PREDICTIONS) or {"sources": [], "names": [], "references": []}
    return dict(zip(zip(columns["sources"], columns["names"], strict=True), columns["references"], strict=True))


def blend_table(images: Sequence[Image], fold: np.ndarray, mos: np.ndarray, mos_true: np.ndarray) -> pd.DataFrame:
    """A blend's predictions [P] as a table of the form of a group's; `fold` [P] of the outer loop."""
    sources, names = zip(*images, strict=True)
    columns = [sources, names, fold, 0, mos, "", mos_true]
    return pd.DataFrame(dict(zip(OOF_COLUMNS, columns, strict=True)))
