"""An export held against torch on validation images: captions, mos and scores."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from src.common.errors import UserError

if TYPE_CHECKING:
    from src.data.sample import Sample
    from src.inference.predictions import Predictions
    from src.inference.predictor import Predictor
    from src.models.model_folder import LoadedModel


def labelled_images(loaded: "LoadedModel", part: str, most: int) -> "list[Sample]":
    """Photos of a part of the model's own data, evenly spaced; says how many of them cannot be read and are left out.

    Raises:
        UserError: the data is not here, or none of these photos can be read.
    """
    from src.data.image_io import check_image
    from src.data.sources import load_part

    samples = load_part(loaded.config, part)
    chosen = samples[:: max(1, len(samples) // most)][:most]
    reasons = [check_image(one.path) for one in chosen]
    found = [one for one, reason in zip(chosen, reasons, strict=True) if reason is None]
    if lost := [f"{one.path} {reason}" for one, reason in zip(chosen, reasons, strict=True) if reason]:
        told = f"{len(lost)} of {len(chosen)} {part} photos cannot be used, such as {lost[0]}"
        if not found:
            raise UserError(f"{told}; bring them back, or leave --int8 out and give --check 0")
        print(f"{told}; they are left out", file=sys.stderr)
    return found


@dataclass
class ExportDifference:
    """How two models' answers for the same photos differ.

    Attributes:
        photos: how many there are.
        alike: captions that are the same; None without captions.
        mos: the largest difference in mos; NaN without that head.
        scores: name -> the one's and the other's, of the photos that have labels.
    """

    photos: int
    alike: int | None
    mos: float
    scores: dict[str, tuple[float, float]]

    def table(self) -> str:
        """Lines to print."""
        rows = [
            f"{name:<20}{one:>10.4f}{other:>10.4f}{other - one:>+10.4f}" for name, (one, other) in self.scores.items()
        ]
        head = f"{'score':<20}{'torch':>10}{'onnx':>10}{'apart':>10}"
        captions = [] if self.alike is None else [f"{self.alike} of {self.photos} captions are the same"]
        mos = [] if math.isnan(self.mos) else [f"mos differs by at most {self.mos:.2g}"]
        return "\n".join([head, *rows, "; ".join(captions + mos)])


def compare_predictions(one: "Predictions", other: "Predictions") -> ExportDifference:
    """Two models' answers for the same photos."""
    from src.inference.predictions import score_predictions

    same = [a == b for a, b in zip(one.captions, other.captions, strict=True)]
    apart = np.abs(np.subtract(one.mos, other.mos))
    left, right = score_predictions(one), score_predictions(other)
    scores = {name: (value.value, right[name].value) for name, value in left.items() if name in right}
    return ExportDifference(len(one), sum(same) if any(one.captions) else None, float(apart.max()), scores)


def engine_predictions(answerer: "Predictor", samples: "Sequence[Sample]", chunk: int = 16) -> "Predictions":
    """What an answerer says of labelled photos, each in the style of its own source."""
    from src.inference.batch_prediction import known_styles, source_style
    from src.inference.predictions import Predictions

    config = answerer.about.config
    answers = Predictions(*([] for _ in range(6)))
    for start in range(0, len(samples), chunk):
        some = samples[start : start + chunk]
        for style in dict.fromkeys(source_style(config, one.source) for one in some):
            group = [one for one in some if source_style(config, one.source) == style]
            known = style if config.model.decoder.enabled and style in known_styles(answerer.about) else ""
            add_predictions(answers, answerer, group, known)
    return answers


def add_predictions(answers: "Predictions", answerer: "Predictor", samples: "Sequence[Sample]", style: str) -> None:
    """Puts what an answerer says of photos behind what is known already.

    Raises:
        UserError: a photo cannot be read.
    """
    from src.inference.predictor import PredictionError, RequestOptions

    ask = RequestOptions(replace(answerer.about.config.generate), style)
    for sample, found in zip(samples, answerer.answer([one.path.read_bytes() for one in samples], ask), strict=True):
        if isinstance(found, PredictionError):
            raise UserError(f"{sample.path} {found.reason}; remove it, or check other photos")
        answers.names.append(sample.name)
        answers.sources.append(sample.source)
        answers.mos.append(math.nan if found.mos is None else found.mos)
        answers.mos_true.append(math.nan if sample.mos is None else sample.mos)
        answers.captions.append(found.captions[0].text if found.captions else "")
        answers.references.append(list(sample.captions))
