"""Several decoders as a single decoder: at each word the mean of their probabilities.

Held by tests/inference/test_ensemble.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import torch
from torch import Tensor

from src.models.generation import StepDecoder


@dataclass
class EnsembleState:
    """Each decoder's state of the same captions."""

    states: list[Any]

    def select(self, rows: Tensor) -> "EnsembleState":
        """The captions `rows` [R'] int64 of all states."""
        return EnsembleState([state.select(rows) for state in self.states])


class EnsembleDecoder:
    """Decoders of one vocabulary as one: at each step the mean of their probabilities.

    Each has its own backbone, so each has its own grid of the same images.
    """

    def __init__(self, decoders: Sequence[StepDecoder], grids: Sequence[Tensor]) -> None:
        """Decoders and, for each, its grid [P, N, C], where N and C may differ between them."""
        self.decoders, self.grids = list(decoders), list(grids)

    def start(self, grid: Tensor) -> EnsembleState:
        """The state of one caption for each image; each decoder takes its own grid instead of the argument."""
        pairs = zip(self.decoders, self.grids, strict=True)
        return EnsembleState([decoder.start(features) for decoder, features in pairs])

    def step(self, state: EnsembleState, tokens: Tensor) -> tuple[Tensor, EnsembleState, Tensor]:
        """Log of the mean probability [R, V], the next state, and the first decoder's attention [R, N]."""
        pairs = zip(self.decoders, state.states, strict=True)
        steps = [decoder.step(previous, tokens) for decoder, previous in pairs]
        logp = torch.stack([logits.float().log_softmax(dim=1) for logits, _, _ in steps])
        return logp.logsumexp(dim=0) - log(len(steps)), EnsembleState([after for _, after, _ in steps]), steps[0][2]
