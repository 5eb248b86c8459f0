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
from src.inference.batch_prediction import Seen, Settings, answer_photos, answer_seen, see
from src.inference.blending import join_mos, vote
from src.inference.predictions import Answers
from src.models.generation import Decoder, generate
from src.models.model_folder import Loaded


@dataclass
class JointState:
    """Each decoder's state of the same captions."""

    states: list[Any]

    def select(self, rows: Tensor) -> "JointState":
        """The captions `rows` [R'] int64 of all states."""
        return JointState([state.select(rows) for state in self.states])


class Joint:
    """Decoders of one vocabulary as one: at each step the mean of their probabilities.

    Each has its own backbone, so each has its own grid of the same photos.
    """

    def __init__(self, decoders: Sequence[Decoder], grids: Sequence[Tensor]) -> None:
        """Decoders and, for each, its grid [P, N, C], where N and C may differ between them."""
        self.decoders, self.grids = list(decoders), list(grids)

    def start(self, grid: Tensor) -> JointState:
        """The state of one caption a photo; each decoder takes its own grid, not the one given."""
        return JointState([one.start(own) for one, own in zip(self.decoders, self.grids, strict=True)])

    def step(self, state: JointState, tokens: Tensor) -> tuple[Tensor, JointState, Tensor]:
        """Log of the mean probability [R, V], the next state, and the first decoder's attention [R, N]."""
        steps = [one.step(own, tokens) for one, own in zip(self.decoders, state.states, strict=True)]
        logp = torch.stack([logits.float().log_softmax(dim=1) for logits, _, _ in steps])
        return logp.logsumexp(dim=0) - log(len(steps)), JointState([own for _, own, _ in steps]), steps[0][2]


def share_words(members: Sequence[Loaded]) -> bool:
    """Whether all decoders there are have the same vocabulary."""
    return len({one.tokenizer.to_json() for one in members if one.config.model.decoder.enabled}) == 1


def combined(settings: Sequence[Settings]) -> Settings:
    """What the models are asked for together; captions as the first that writes any."""
    first = next((one for one in settings if one.captions), settings[0])
    return replace(first, mos=any(one.mos for one in settings), captions=any(one.captions for one in settings))


def answer_together(
    members: Sequence[Loaded], samples: Sequence[Sample], settings: Sequence[Settings], how: str, outliers: float
) -> tuple[Answers, dict[str, str]]:
    """Joint answers in the samples' order, as `answering.answer_photos` gives them.

    Args:
        members: the models.
        samples: the photos.
        settings: how each model answers; captions are written as the first decoder's say.
        how: mean or rank, see `ensemble.join_mos`.
        outliers: see `ensemble.average`.
    """
    if share_words(members):
        parts, captions, failed = _streamed(members, samples, settings)
    else:
        pairs = [answer_photos(m, samples, s) for m, s in zip(members, settings, strict=True)]
        parts = [answers for answers, _ in pairs]
        failed = {name: why for _, lost in pairs for name, why in lost.items()}
        told = [part.captions for part, m in zip(parts, members, strict=True) if m.config.model.decoder.enabled]
        captions = vote(told) if told else parts[0].captions
    values = [part.mos for part, m in zip(parts, members, strict=True) if m.config.model.mos.enabled]
    joined = Answers(**{**vars(parts[0]), "captions": captions})
    if values:
        joined.mos = _join(np.array(values), how, outliers)
    return joined, failed


def _join(values: np.ndarray, how: str, outliers: float) -> list[float]:
    """Joined mos [P] of [M, P], NaN where a model gives none."""
    known = np.isfinite(values).all(axis=0)
    joined = np.full(values.shape[1], np.nan)
    if known.any():
        joined[known] = join_mos(values[:, known], how, outliers)
    return joined.tolist()


def _streamed(
    members: Sequence[Loaded], samples: Sequence[Sample], settings: Sequence[Settings]
) -> tuple[list[Answers], list[str], dict[str, str]]:
    """All models side by side, batch by batch: each one's mos, the joint captions, and what could not be read."""
    device = best_device()
    for member in members:
        member.model.to(device).eval()
    parts: list[list[Answers]] = [[] for _ in members]
    captions: list[str] = []
    failed: dict[str, str] = {}
    with torch.inference_mode():
        streams = [see(m, samples, s) for m, s in zip(members, settings, strict=True)]
        for seens in zip(*streams, strict=True):
            captions += _captions(members, seens, combined(settings), device)
            for i, (member, seen) in enumerate(zip(members, seens, strict=True)):
                seen.features.pop("grid", None)
                parts[i].append(answer_seen(member, seen, settings[i], device))
                failed |= seen.reasons()
    return [Answers.join(part) for part in parts], captions, failed


def _captions(members: Sequence[Loaded], seens: Sequence[Seen], settings: Settings, device: torch.device) -> list[str]:
    """One caption for each photo of a batch from all decoders at once, empty where it could not be read."""
    able = [(m, s) for m, s in zip(members, seens, strict=True) if m.model.decoder is not None and "grid" in s.features]
    captions = [""] * len(seens[0].samples)
    if not able:
        return captions
    first, seen = able[0]
    grids = [s.features["grid"][:, 0].to(device) for _, s in able]
    joint = Joint([m.model.decoder for m, _ in able if m.model.decoder is not None], grids)
    style = torch.full((len(grids[0]),), first.tokenizer.style(settings.style), device=device)
    written = generate(joint, grids[0], style, settings.generation, first.model.special)
    for row, caption in zip(seen.rows["grid"], written, strict=True):
        captions[row] = first.tokenizer.decode(caption.tokens)
    return captions
