"""What a model answers for photos: mos and captions beside the truth, and their scores."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from tqdm import tqdm

from src.common.device import autocast
from src.config.schema import GenerationConfig
from src.data.batch import Batch
from src.data.tokenizer import Tokenizer
from src.metrics.base import Score
from src.metrics.compute import score_images
from src.metrics.meteor import Meteor
from src.models.multitask import MultitaskModel


@dataclass
class Predictions:
    """Predictions beside the truth, one entry a photo.

    Attributes:
        names: of the photos.
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
    def join(parts: Iterable["Predictions"]) -> "Predictions":
        """All parts as one."""
        whole = Predictions()
        for part in parts:
            for name, values in vars(part).items():
                getattr(whole, name).extend(values)
        return whole

    def without(self, rows: Iterable[int]) -> "Predictions":
        """All but some rows."""
        left = sorted(set(range(len(self))) - set(rows))
        return Predictions(**{name: [values[row] for row in left] for name, values in vars(self).items()})

    def __len__(self) -> int:
        return len(self.names)


def predict_batch(
    model: MultitaskModel, batch: Batch, generation: GenerationConfig, tokenizer: Tokenizer
) -> Predictions:
    """A model's answers for a batch whose views hold the rows to answer for; none for photos that cannot be read."""
    mos, tokens = model.predict(batch, generation)
    captions = [""] * len(batch)
    if tokens is not None and batch.captioning is not None:
        for row, ids in zip(batch.captioning.rows.tolist(), tokens, strict=True):
            captions[row] = tokenizer.decode(ids)
    answers = Predictions(
        names=list(batch.names),
        sources=list(batch.sources),
        mos=mos.float().tolist(),
        mos_true=batch.mos.tolist(),
        captions=captions,
        references=batch.references or [[] for _ in batch.names],
    )
    return answers.without(batch.unreadable) if batch.unreadable else answers


@torch.inference_mode()
def predict_batches(
    model: MultitaskModel,
    batches: Iterable[Batch],
    generation: GenerationConfig,
    tokenizer: Tokenizer,
    precision: str = "32",
) -> Predictions:
    """A model's answers for all batches, computed where the model's weights are."""
    device = next(model.parameters()).device
    model.eval()
    parts = []
    for batch in tqdm(batches, desc="answering", unit="batch", leave=False):
        with autocast(device, precision):
            parts.append(predict_batch(model, batch.to(device), generation, tokenizer))
    return Predictions.join(parts)


def score_predictions(answers: Predictions, meteor: Meteor | None = None, intervals: bool = False) -> dict[str, Score]:
    """Every score of the answers, each over the photos that carry its label; METEOR only where given."""
    return score_images(
        names=answers.names,
        mos=np.array(answers.mos),
        mos_true=np.array(answers.mos_true),
        candidates=answers.captions,
        references=answers.references,
        meteor=meteor,
        intervals=intervals,
    ).scores
