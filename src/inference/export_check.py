"""An export checked against torch on labelled images: captions, mos and scores.

Held by tests/inference/test_onnx_export.py.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.common.errors import UserError
from src.common.text_table import format_table
from src.data.image_io import check_image
from src.data.sample import Sample
from src.data.sources import load_part
from src.inference.engine import GraphEngine
from src.inference.onnx_graph import EncoderGraph, Graph, encoder_passes
from src.inference.predict_options import PredictOptions
from src.inference.predictions import Predictions, score_predictions
from src.inference.predictor import Predictor
from src.models.model_folder import ModelDescription, load_model_folder


def labelled_images(description: ModelDescription, part: str, most: int) -> list[Sample]:
    """Images of a part of the model's own data, evenly spaced; those that cannot be read are left out, with a message.

    Raises:
        UserError: the data is missing, or none of these images can be read.
    """
    samples = load_part(description.config, part)
    chosen = samples[:: max(1, len(samples) // most)][:most]
    reasons = [check_image(sample.path) for sample in chosen]
    readable = [sample for sample, reason in zip(chosen, reasons, strict=True) if reason is None]
    if len(readable) < len(chosen):
        path, reason = next((s.path, reason) for s, reason in zip(chosen, reasons, strict=True) if reason)
        count = f"{len(chosen) - len(readable)} of {len(chosen)} {part} photos cannot be used, such as {path} {reason}"
        if not readable:
            raise UserError(f"{count}; bring them back, or leave --int8 out and give --check 0")
        print(f"{count}; they are left out", file=sys.stderr)
    return readable


@dataclass
class ExportDifference:
    """The difference between two models' predictions for the same images.

    Attributes:
        images: how many.
        same_captions: images with equal captions; None without captions.
        mos: the largest difference in mos; NaN without that head.
        scores: name -> both models' values, over the images that have labels.
    """

    images: int
    same_captions: int | None
    mos: float
    scores: dict[str, tuple[float, float]]

    def table(self) -> str:
        """Lines to print."""
        rows = [["score", "torch", "onnx", "difference"]]
        rows += [[name, f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}"] for name, (a, b) in self.scores.items()]
        captions = f"{self.same_captions} of {self.images} captions are the same"
        mos = f"mos differs by at most {self.mos:.2g}"
        known = [captions] * (self.same_captions is not None) + [mos] * (not math.isnan(self.mos))
        return "\n".join([format_table(rows, right={1, 2, 3}), "; ".join(known)])


def compare_predictions(reference: Predictor, export: Predictor, samples: Sequence[Sample]) -> ExportDifference:
    """The difference between two computations of a model, each image in the style of its own source.

    Raises:
        UserError: an image cannot be read.
    """
    a, b = (check_predictions(predictor, samples) for predictor in (reference, export))
    same = sum(left == right for left, right in zip(a.captions, b.captions, strict=True))
    scores, other = score_predictions(a).scores, score_predictions(b).scores
    values = {name: (score.value, other[name].value) for name, score in scores.items() if name in other}
    distance = float(np.abs(np.subtract(a.mos, b.mos)).max())
    return ExportDifference(len(a), same if any(a.captions) else None, distance, values)


def load_float32(folder: Path) -> Predictor:
    """A predictor of a model folder, computed by torch in 32 bits throughout, on the CPU.

    TorchEngine rounds grids to 16 bits, as the feature cache keeps them: too coarse a reference for an export.
    """
    loaded = load_model_folder(folder)
    passes = encoder_passes(loaded.config)
    encoders: dict[int, Graph] = {item.size: EncoderGraph(loaded.model, item.kinds) for item in passes}
    return Predictor(loaded, GraphEngine(loaded, encoders, loaded.model.decoder))


def check_predictions(predictor: Predictor, samples: Sequence[Sample]) -> Predictions:
    """A model's predictions for images that must be readable."""
    options = PredictOptions(predictor.description.config.generate, batch_size=16, progress=False)
    predictions, failed = predictor.predict(samples, options)
    if failed:
        raise UserError(f"{next(iter(failed.values()))}; remove it, or check other photos")
    return predictions
