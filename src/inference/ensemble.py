"""Several models that answer photos together: mos joined; captions from all decoders at once, or by vote."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.common.device import best_device
from src.data.sample import Sample
from src.inference.batch_prediction import (
    FeatureBatch,
    PredictOptions,
    extract_features,
    predict_features,
    predict_images,
)
from src.inference.blending import blend_mos, consensus_captions
from src.inference.predictions import Predictions
from src.models.generation import StepDecoder, generate
from src.models.model_folder import LoadedModel


@dataclass
class EnsembleState:
    """Each decoder's state of the same captions."""

    states: list[Any]

    def select(self, rows: Tensor) -> "EnsembleState":
        """The captions `rows` [R'] int64 of all states."""
        return EnsembleState([state.select(rows) for state in self.states])


class EnsembleDecoder:
    """Decoders of one vocabulary as one: at each step the mean of their probabilities.

    Each has its own backbone, so each has its own grid of the same photos.
    """

    def __init__(self, decoders: Sequence[StepDecoder], grids: Sequence[Tensor]) -> None:
        """Decoders and, for each, its grid [P, N, C], where N and C may differ between them."""
        self.decoders, self.grids = list(decoders), list(grids)

    def start(self, grid: Tensor) -> EnsembleState:
        """The state of one caption a photo; each decoder takes its own grid, not the one given."""
        return EnsembleState([one.start(own) for one, own in zip(self.decoders, self.grids, strict=True)])

    def step(self, state: EnsembleState, tokens: Tensor) -> tuple[Tensor, EnsembleState, Tensor]:
        """Log of the mean probability [R, V], the next state, and the first decoder's attention [R, N]."""
        steps = [one.step(own, tokens) for one, own in zip(self.decoders, state.states, strict=True)]
        logp = torch.stack([logits.float().log_softmax(dim=1) for logits, _, _ in steps])
        return logp.logsumexp(dim=0) - log(len(steps)), EnsembleState([own for _, own, _ in steps]), steps[0][2]


def share_vocabulary(members: Sequence[LoadedModel]) -> bool:
    """Whether all decoders there are have the same vocabulary."""
    return len({one.tokenizer.to_json() for one in members if one.config.model.decoder.enabled}) == 1


def combined_options(settings: Sequence[PredictOptions]) -> PredictOptions:
    """What the models are asked for together; captions as the first that writes any."""
    first = next((one for one in settings if one.captions), settings[0])
    return replace(first, mos=any(one.mos for one in settings), captions=any(one.captions for one in settings))


def predict_ensemble(
    members: Sequence[LoadedModel],
    samples: Sequence[Sample],
    settings: Sequence[PredictOptions],
    how: str,
    outliers: float,
) -> tuple[Predictions, dict[str, str]]:
    """Joint answers in the samples' order, as `predict_images` gives them.

    Args:
        members: the models.
        samples: the photos.
        settings: how each model answers; captions are written as the first decoder's say.
        how: mean or rank, see `ensemble.join_mos`.
        outliers: see `ensemble.average`.
    """
    if share_vocabulary(members):
        parts, captions, failed = _streamed(members, samples, settings)
    else:
        pairs = [predict_images(m, samples, s) for m, s in zip(members, settings, strict=True)]
        parts = [answers for answers, _ in pairs]
        failed = {name: why for _, lost in pairs for name, why in lost.items()}
        told = [part.captions for part, m in zip(parts, members, strict=True) if m.config.model.decoder.enabled]
        captions = consensus_captions(told) if told else parts[0].captions
    values = [part.mos for part, m in zip(parts, members, strict=True) if m.config.model.mos.enabled]
    joined = Predictions(**{**vars(parts[0]), "captions": captions})
    if values:
        joined.mos = _join(np.array(values), how, outliers)
    return joined, failed


def _join(values: np.ndarray, how: str, outliers: float) -> list[float]:
    """Joined mos [P] of [M, P], NaN where a model gives none."""
    known = np.isfinite(values).all(axis=0)
    joined = np.full(values.shape[1], np.nan)
    if known.any():
        joined[known] = blend_mos(values[:, known], how, outliers)
    return joined.tolist()


def _streamed(
    members: Sequence[LoadedModel], samples: Sequence[Sample], settings: Sequence[PredictOptions]
) -> tuple[list[Predictions], list[str], dict[str, str]]:
    """All models side by side, batch by batch: each one's mos, the joint captions, and what could not be read."""
    device = best_device()
    for member in members:
        member.model.to(device).eval()
    parts: list[list[Predictions]] = [[] for _ in members]
    captions: list[str] = []
    failed: dict[str, str] = {}
    with torch.inference_mode():
        streams = [extract_features(m, samples, s) for m, s in zip(members, settings, strict=True)]
        for seens in zip(*streams, strict=True):
            captions += _captions(members, seens, combined_options(settings), device)
            for i, (member, seen) in enumerate(zip(members, seens, strict=True)):
                seen.features.pop("grid", None)
                parts[i].append(predict_features(member, seen, settings[i], device))
                failed |= seen.reasons()
    return [Predictions.join(part) for part in parts], captions, failed


def _captions(
    members: Sequence[LoadedModel], seens: Sequence[FeatureBatch], settings: PredictOptions, device: torch.device
) -> list[str]:
    """One caption for each photo of a batch from all decoders at once, empty where it could not be read."""
    able = [(m, s) for m, s in zip(members, seens, strict=True) if m.model.decoder is not None and "grid" in s.features]
    captions = [""] * len(seens[0].samples)
    if not able:
        return captions
    first, seen = able[0]
    grids = [s.features["grid"][:, 0].to(device) for _, s in able]
    joint = EnsembleDecoder([m.model.decoder for m, _ in able if m.model.decoder is not None], grids)
    style = torch.full((len(grids[0]),), first.tokenizer.style(settings.style), device=device)
    written = generate(joint, grids[0], style, settings.generation, first.model.special)
    for row, caption in zip(seen.rows["grid"], written, strict=True):
        captions[row] = first.tokenizer.decode(caption.tokens)
    return captions
