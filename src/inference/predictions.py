"""Predictions of a batch: mos and captions beside the truth, and their scores.

Notation: B images, R rows of them that a task predicts, N places of the grid, C channels.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from src.common.device import autocast
from src.common.progress import progress_bar
from src.config.schema import GenerationConfig
from src.data.batch import Batch
from src.data.tokenizer import Tokenizer
from src.metrics.base import Scores
from src.metrics.compute import score_images
from src.metrics.meteor import Meteor
from src.models.beam_search import GeneratedCaption
from src.models.generation import StepDecoder, generate
from src.models.multitask import MultitaskModel, MultitaskOutputs
from src.tracking.held_out import PREDICTIONS


@dataclass
class Predictions:
    """Predictions beside the truth, one entry for each image.

    Attributes:
        names: of the images.
        sources: the data sets they are from.
        mos: predicted, NaN without a mos head.
        mos_true: NaN where unknown.
        captions: generated, empty without a decoder.
        references: captions as written, empty where unknown.
    """

    names: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    mos: list[float] = field(default_factory=list)
    mos_true: list[float] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    references: list[list[str]] = field(default_factory=list)

    @staticmethod
    def read(run_folder: Path) -> "Predictions":
        """A finished run's predictions for its validation images."""
        return Predictions(**json.loads((run_folder / PREDICTIONS).read_text(encoding="utf-8")))

    @staticmethod
    def join(parts: Iterable["Predictions"]) -> "Predictions":
        """All parts as one."""
        joined = Predictions()
        for part in parts:
            for name, values in vars(part).items():
                getattr(joined, name).extend(values)
        return joined

    def without(self, rows: Iterable[int]) -> "Predictions":
        """All but some rows."""
        return self.select(sorted(set(range(len(self))) - set(rows)))

    def select(self, rows: Sequence[int]) -> "Predictions":
        """Some rows, in their order."""
        return Predictions(**{name: [values[row] for row in rows] for name, values in vars(self).items()})

    def __len__(self) -> int:
        return len(self.names)


class PredictionModel(Protocol):
    """A multitask model, or an engine that computes one.

    Attributes:
        special: tokens that captions never hold.
    """

    special: list[int]

    @property
    def decoder(self) -> StepDecoder | None:
        """The caption head, or None."""

    def __call__(self, batch: Batch) -> MultitaskOutputs:
        """mos [R] or [R, views], and grid [R, N, C]."""


CaptionWriter = Callable[[Tensor, Batch], Sequence[GeneratedCaption]]
"""A caption of each image that the batch's caption input holds, from its grid [R, N, C]."""


@torch.inference_mode()
def predict_batch(
    model: PredictionModel,
    batch: Batch,
    generation: GenerationConfig,
    tokenizer: Tokenizer,
    write: CaptionWriter | None = None,
) -> Predictions:
    """A model's predictions for the images that the batch's task inputs hold, in eval mode; none for unreadable ones.

    mos is NaN and the caption empty of an image that the task's input does not hold. Without `write`, captions are
    those of `generate`, without a choice among candidates.
    """
    outputs = model(batch)
    captions = [""] * len(batch)
    if model.decoder is not None and outputs.grid is not None and batch.caption_input is not None:
        rows = batch.caption_input.rows
        inputs = model.decoder, outputs.grid, batch.style[rows], generation, model.special
        written = write(outputs.grid, batch) if write else generate(*inputs)
        for row, caption in zip(rows.tolist(), written, strict=True):
            captions[row] = tokenizer.decode(caption.tokens)
    predictions = Predictions(
        names=list(batch.names),
        sources=list(batch.sources),
        mos=image_mos(outputs, batch).tolist(),
        mos_true=batch.mos.tolist(),
        captions=captions,
        references=batch.references or [[] for _ in batch.names],
    )
    return predictions.without(batch.unreadable) if batch.unreadable else predictions


def image_mos(outputs: MultitaskOutputs, batch: Batch) -> Tensor:
    """mos [B], the mean over an image's views (flip averaging), NaN of images outside the batch's quality input."""
    mos = torch.full((len(batch),), math.nan, device=batch.mos.device)
    if outputs.mos is not None and batch.mos_input is not None:
        views = outputs.mos.float()
        mos[batch.mos_input.rows] = views.mean(dim=1) if views.ndim > 1 else views
    return mos


def predict_batches(
    model: MultitaskModel,
    batches: DataLoader[Batch],
    generation: GenerationConfig,
    tokenizer: Tokenizer,
    precision: str = "32",
) -> Predictions:
    """A model's predictions for all batches, computed where the model's weights are."""
    device = next(model.parameters()).device
    model.eval()
    parts = []
    with progress_bar(len(batches), "predicting", "batch") as bar:
        for batch in batches:
            with autocast(device, precision):
                parts.append(predict_batch(model, batch.to(device), generation, tokenizer))
            bar.update()
    return Predictions.join(parts)


def score_predictions(predictions: Predictions, meteor: Meteor | None = None, intervals: bool = False) -> Scores:
    """Every score, each over the images that carry its label; METEOR only where given."""
    return score_images(
        names=predictions.names,
        mos=np.array(predictions.mos),
        mos_true=np.array(predictions.mos_true),
        candidates=predictions.captions,
        references=predictions.references,
        meteor=meteor,
        intervals=intervals,
    )
