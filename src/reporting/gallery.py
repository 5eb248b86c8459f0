"""Which photos to show: the best, middling and worst answered ones of either task."""

from collections.abc import Sequence

import numpy as np

from src.plots.figures import mos_text
from src.reporting.html import Gallery, GalleryPhoto
from src.reporting.images import thumbnails
from src.reporting.model_data import ModelData

EACH, SIDE = 6, 240
PLACES = ("best", "median", "worst")


def galleries(material: ModelData) -> list[Gallery]:
    """Six photos each with the smallest, middling and largest mos error, and likewise by CIDEr-D."""
    own = material.whole.per_image
    orders = {}
    if "mos_error" in own:
        orders["mos, {} (predicted less true)"] = ("mos_error", rank_rows(-np.abs(own["mos_error"])))
    if "cider_d" in own:
        orders["captions, {} (CIDEr-D of the photo)"] = ("cider_d", rank_rows(own["cider_d"]))
    return [
        Gallery(title.format(place), gallery_photos(material, rows, score))
        for title, (score, ordered) in orders.items()
        for place, rows in zip(PLACES, pick_examples(ordered), strict=True)
        if len(rows)
    ]


def rank_rows(merit: np.ndarray) -> np.ndarray:
    """Rows from the best to the worst; those without merit are left out."""
    rows = np.flatnonzero(np.isfinite(merit))
    return rows[np.argsort(-merit[rows], kind="stable")]


def pick_examples(rows: np.ndarray, each: int = EACH) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first, the middle and the last of ordered rows, none twice; of few rows, a third each."""
    each = min(each, len(rows) // 3) or min(1, len(rows))
    rest = rows[each:] if len(rows) > each else rows[:0]
    worst = rest[len(rest) - min(each, len(rest)) :][::-1]
    between = rest[: len(rest) - len(worst)]
    middle = max(0, len(rows) // 2 - each // 2 - each)
    return rows[:each], between[middle : middle + each], worst


def gallery_photos(material: ModelData, rows: Sequence[int] | np.ndarray, score: str) -> list[GalleryPhoto]:
    """Photos with what was said of them, and their own score."""
    answers, own = material.asked.answers, material.whole.per_image[score]
    uris = thumbnails([material.asked.samples[i].path for i in rows], SIDE)
    return [
        GalleryPhoto(
            uri,
            photo_title(material, int(i), float(own[i]), score),
            answers.captions[i] if score != "mos_error" or answers.captions[i] else "",
            answers.references[i][:3] if score != "mos_error" else (),
        )
        for uri, i in zip(uris, rows, strict=True)
    ]


def photo_title(material: ModelData, row: int, value: float, score: str) -> str:
    """`a.jpg: mos 5.10, true 4.90 (+0.20)` or `a.jpg: 0.52`."""
    answers = material.asked.answers
    if score == "mos_error":
        return f"{answers.names[row]}: {mos_text(answers.mos_true[row], answers.mos[row])} ({value:+.2f})"
    return f"{answers.names[row]}: {value:.2f}"
