"""Doubts about labelled data, as a table that `data.exclude` takes: near-duplicates, mos and captions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from src.common.errors import UserError
from src.common.files import atomic_write
from src.config.schema import Config
from src.data.exclusions import read_exclusions
from src.data.image_hashes import hash_images
from src.data.near_duplicates import near_duplicate_labels
from src.data.sample import Sample
from src.data.sources import official_splits, read_sources
from src.data.split import split_images
from src.evaluation.caption_audit import CaptionFinding, empty_captions, misfit_captions
from src.inference.image_vectors import image_vectors, nearest_vectors
from src.inference.shifted_split import ensure_shifted_splits
from src.models.backbones.base import Backbone, resolve_backbone
from src.tracking.finished_runs import find_group
from src.tracking.held_out import read_held_out
from src.tracking.run_registry import find_model

COPY, MOS, EMPTY, MISFIT = "near_duplicate", "mos_outlier", "empty_caption", "misfit_caption"
KINDS = {
    COPY: "copies of another photo: features with a cosine of 0.97 or more (score), or the same perceptual hash (1)",
    MOS: "mos that models, which did not train on the photo, contradict: robust z-score of their error (score)",
    EMPTY: "captions of few words, or of generic words alone: number of other words (score)",
    MISFIT: "captions that fit random photos better than their own: share of such photos (score)",
}
COSINE = 0.97
NEIGHBOURS = 10
MAD_TO_DEVIATION = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class AuditRow:
    """A doubt about an image, or about one caption of it.

    Attributes:
        source: of the image.
        img_name: its name.
        kind: one of KINDS.
        score: as KINDS says.
        caption: the caption in doubt; empty: the whole image.
        other: name of the image that it copies, or that the caption fits best.
        detail: predicted and true mos, or how a copy was recognised.
    """

    source: str
    img_name: str
    kind: str
    score: float
    caption: str = ""
    other: str = ""
    detail: str = ""


@dataclass
class DataAudit:
    """The rows, and the images they are of: all images of training and validation."""

    rows: list[AuditRow]
    samples: list[Sample]

    def write(self, path: Path) -> None:
        """Writes the table."""
        table = pd.DataFrame([vars(row) for row in self.rows], columns=[field.name for field in fields(AuditRow)])
        with atomic_write(path) as part:
            table.to_csv(part, index=False, encoding="utf-8", lineterminator="\n", float_format="%.4g")


def audit_data(config: Config, model: str = "", words: int = 3, z: float = 3.5) -> DataAudit:
    """Looks for doubtful labels among a config's images of training and validation.

    Args:
        config: data, backbone and heads.
        model: a group or a run, whose predictions for images that it did not train on are compared with the labels;
            empty: none.
        words: a caption of fewer words says nothing.
        z: robust z-score from which a mos is in doubt.

    Raises:
        UserError: the data cannot be read, or the model has no predictions for images that it did not train on.
    """
    errors = held_out_errors(model) if model else {}
    config = resolve_backbone(config)
    backbone = Backbone(config.model.backbone)
    ensure_shifted_splits(config, backbone)
    samples = read_sources(config.data)
    parts = split_images(samples, config.data, official_splits(config.data))
    exclusions = read_exclusions(config.data, samples)
    samples = [exclusions.without_captions(s) for s in samples if parts.get((s.source, s.name)) in ("train", "val")]
    rows = [*copies_by_hash(config, samples), *mos_outliers(samples, errors, z)]
    for source in dict.fromkeys(sample.source for sample in samples):
        members = [sample for sample in samples if sample.source == source]
        rows += audit_source(config, backbone, members, words)
    order = {kind: place for place, kind in enumerate(KINDS)}
    unique = {(row.source, row.img_name, row.kind, row.caption): row for row in reversed(rows)}
    return DataAudit(sorted(unique.values(), key=lambda row: (order[row.kind], -abs(row.score))), samples)


def audit_source(config: Config, backbone: Backbone, samples: Sequence[Sample], min_words: int) -> Iterator[AuditRow]:
    """Rows from the features and captions of one source."""
    readable, vectors = image_vectors(config, backbone, samples)
    places, cosines = nearest_vectors(vectors, NEIGHBOURS)
    nearest = np.full((len(samples), NEIGHBOURS), -1)
    nearest[readable] = np.where(places >= 0, readable[places], -1) if len(readable) else places
    yield from copies_by_features(samples, readable, nearest[readable], cosines)
    yield from caption_rows(EMPTY, samples, empty_captions(samples, min_words))
    yield from caption_rows(MISFIT, samples, misfit_captions(samples, nearest))


def copies_by_hash(config: Config, samples: Sequence[Sample]) -> Iterator[AuditRow]:
    """All but the first of the images with near-equal perceptual hashes."""
    paths, folder = [sample.path for sample in samples], Path(config.data.split_dir)
    firsts: dict[str, Sample] = {}
    for sample, label in zip(samples, near_duplicate_labels(paths, hash_images(paths, folder), folder), strict=True):
        first = firsts.setdefault(label, sample) if label else sample
        if first is not sample:
            yield AuditRow(sample.source, sample.name, COPY, 1.0, other=first.name, detail="perceptual hash")


def copies_by_features(
    samples: Sequence[Sample], rows: np.ndarray, nearest: np.ndarray, cosines: np.ndarray
) -> Iterator[AuditRow]:
    """The later image of each pair of near-equal features; arguments for rows [R] of images with features."""
    for row, others, near in zip(rows.tolist(), nearest.tolist(), cosines.tolist(), strict=True):
        pairs = zip(near, others, strict=True)
        if earlier := [(cosine, other) for cosine, other in pairs if cosine >= COSINE and 0 <= other < row]:
            cosine, other = max(earlier)
            names = {"img_name": samples[row].name, "other": samples[other].name}
            yield AuditRow(samples[row].source, kind=COPY, score=cosine, detail="features", **names)


def caption_rows(kind: str, samples: Sequence[Sample], findings: Iterable[CaptionFinding]) -> Iterator[AuditRow]:
    """Rows of captions in doubt."""
    for finding in findings:
        sample = samples[finding.row]
        other = samples[finding.other].name if finding.other >= 0 else ""
        yield AuditRow(sample.source, sample.name, kind, finding.score, finding.caption, other)


def held_out_errors(name: str) -> dict[tuple[str, str], tuple[float, float]]:
    """Predicted and true mos of the images that a group or a run predicted without training on them.

    Raises:
        UserError: it has no such predictions of mos.
    """
    group = find_group(name)
    held_out = read_held_out(group.folder if group else find_model(name).parent)
    if held_out is None or not held_out.rated:
        raise UserError(f"--model {name}: has no mos of photos that it did not train on; train a group with --folds 5")
    rated = held_out.select(held_out.rated)
    return {image: (mos, true) for image, mos, true in zip(rated.images, rated.mos, rated.mos_true, strict=True)}


def mos_outliers(
    samples: Sequence[Sample], errors: dict[tuple[str, str], tuple[float, float]], threshold: float
) -> Iterator[AuditRow]:
    """Images whose error has a robust z-score (Iglewicz and Hoaglin 1993) beyond the threshold.

    z is the error less the median error, over 1.4826 times the median absolute deviation from it.
    """
    known = [(sample, *errors[key]) for sample in samples if (key := (sample.source, sample.name)) in errors]
    error = np.array([predicted - true for _, predicted, true in known])
    if not len(error):
        return
    deviation = MAD_TO_DEVIATION * np.median(np.abs(error - np.median(error)))
    scores = (error - np.median(error)) / max(deviation, 1e-12)
    for (sample, predicted, true), z in zip(known, scores.tolist(), strict=True):
        if abs(z) >= threshold:
            detail = f"mos {true:.2f}, predicted {predicted:.2f}"
            yield AuditRow(sample.source, sample.name, MOS, z, detail=detail)
