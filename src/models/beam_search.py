"""Beam search: unfinished captions, finished ones, and a step. Held by tests/models/test_generation.py.

Notation: P images, W unfinished captions an image (the beam), R = P W of them, V tokens, N places of the grid, S steps.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.config.schema import GenerationConfig
from src.data.tokenizer import END

NEVER = float("-inf")


@dataclass
class GeneratedCaption:
    """A caption.

    Attributes:
        tokens: words, without style and end tokens.
        score: log probability, the end token's included; in a beam over length ** length_penalty.
        attention: [S, N], each token's attention, or None.
    """

    tokens: list[int]
    score: float
    attention: Tensor | None = None


@dataclass
class BeamState:
    """Unfinished captions, R = P W rows, image by image.

    Attributes:
        images: [P] int64, which of the caller's images have unfinished captions.
        state: the decoder's, of R captions.
        tokens: [R, S] int64 so far, the style token first.
        score: [R] log probability so far; -inf for an empty place in the beam.
        attention: [R, S, N] so far, or None.
    """

    images: Tensor
    state: Any
    tokens: Tensor
    score: Tensor
    attention: Tensor | None

    def attention_of(self, rows: Tensor) -> Tensor | None:
        """The attention of the captions `rows`."""
        return None if self.attention is None else self.attention[rows]

    def extend(self, rows: Tensor, tokens: Tensor, score: Tensor, images: Tensor) -> "BeamState":
        """The captions `rows`, each with another token, of the images at places `images`."""
        longer = torch.cat([self.tokens[rows], tokens.unsqueeze(1)], dim=1)
        return BeamState(self.images[images], self.state.select(rows), longer, score, self.attention_of(rows))


class BestHypotheses:
    """The best finished caption of each image so far, and how many have finished."""

    def __init__(self, images: int, longest: int, places: int, device: torch.device) -> None:
        self.count = torch.zeros(images, dtype=torch.long, device=device)
        self.score = torch.full((images,), NEVER, device=device)
        self.tokens = torch.full((images, longest), END, device=device)
        self.attention = torch.zeros(images, longest if places else 0, places, device=device)

    def add(self, images: Tensor, score: Tensor, tokens: Tensor, attention: Tensor | None) -> None:
        """Stores better captions: images [P'], none twice, score [P'], tokens [P', S], attention [P', S, N]."""
        better = score > self.score[images]
        images = images[better]
        self.score[images] = score[better]
        self.tokens[images] = END
        self.tokens[images, : tokens.shape[1]] = tokens[better]
        if attention is not None:
            self.attention[images] = 0.0
            self.attention[images, : attention.shape[1]] = attention[better]

    def add_finished(self, beam: BeamState, rows: Tensor, score: Tensor) -> None:
        """Stores the best of finished captions: rows [P, W] of the beam, score [P, W], -inf for none."""
        top, place = score.max(dim=1)
        rows = rows.gather(1, place.unsqueeze(1)).squeeze(1)
        self.add(beam.images, top, beam.tokens[rows, 1:], beam.attention_of(rows))

    def captions(self) -> list[GeneratedCaption]:
        """One caption an image, on the CPU."""
        rows = [row[: row.index(END)] for row in self.tokens.tolist()]
        attention: list[Tensor | None] = [None] * len(rows)
        if self.attention.shape[1]:
            attention = [part[: len(row) + 1] for row, part in zip(rows, self.attention.cpu(), strict=True)]
        return [GeneratedCaption(*parts) for parts in zip(rows, self.score.tolist(), attention, strict=True)]


class AllHypotheses(BestHypotheses):
    """Every finished caption of each image.

    It has no best score, so no image leaves early because its beam cannot overtake the best: an image stays until W
    captions have finished, the best of which is that of BestHypotheses.
    """

    def __init__(self, images: int, device: torch.device) -> None:
        super().__init__(images, 0, 0, device)
        self.finished: list[list[GeneratedCaption]] = [[] for _ in range(images)]

    def add(self, images: Tensor, score: Tensor, tokens: Tensor, attention: Tensor | None) -> None:
        """Stores every caption with a finite score; shapes as BestHypotheses'."""
        for i, (image, value) in enumerate(zip(images.tolist(), score.tolist(), strict=True)):
            if value > NEVER:
                weights = None if attention is None else attention[i].cpu()
                self.finished[image].append(GeneratedCaption(tokens[i].tolist(), value, weights))

    def add_finished(self, beam: BeamState, rows: Tensor, score: Tensor) -> None:
        """Stores all finished captions; shapes as BestHypotheses'."""
        for place in range(rows.shape[1]):
            row = rows[:, place]
            self.add(beam.images, score[:, place], beam.tokens[row, 1:], beam.attention_of(row))

    def ranking(self, size: int) -> list[list[GeneratedCaption]]:
        """At most `size` captions of each image, the best first."""
        return [sorted(captions, key=lambda caption: -caption.score)[:size] for captions in self.finished]


def top_continuations(beam: BeamState, logp: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Scores and places (row in its image's W, times V, plus token) of each image's 2 `width` best continuations.

    Beam search and greedy captions both use it: bf16 logits are often equal, and argmax would choose another of them.
    """
    total = (beam.score.unsqueeze(1) + logp).view(len(beam.images), -1)
    score, places = total.topk(min(2 * width, total.shape[1]), dim=1)
    return score, places


def beam_step(config: GenerationConfig, beam: BeamState, logp: Tensor, best: BestHypotheses) -> BeamState:
    """A step of beam search: of all continuations of an image's captions, the best W unfinished ones remain.

    A continuation with the end token has finished if it is among the best W. An image leaves when W captions have
    finished, or when no unfinished one can overtake the best: its log probability only falls, over the longest length.
    """
    images, vocabulary = len(beam.images), logp.shape[1]
    width = len(beam.tokens) // images
    score, flat = top_continuations(beam, logp, config.beam)
    rows = flat // vocabulary + width * torch.arange(images, device=flat.device).unsqueeze(1)
    token = flat % vocabulary
    _add_finished(config, beam, rows, score.masked_fill(token != END, NEVER), best)
    score, order = score.masked_fill(token == END, NEVER).topk(min(config.beam, score.shape[1]), dim=1)
    bound = score[:, 0] / (config.max_length + 1) ** config.length_penalty
    complete = (best.count[beam.images] >= config.beam) | (best.score[beam.images] >= bound)
    remaining = (~complete).nonzero().squeeze(1)
    rows, token = rows.gather(1, order)[remaining].flatten(), token.gather(1, order)[remaining].flatten()
    return beam.extend(rows, token, score[remaining].flatten(), remaining)


def _add_finished(config: GenerationConfig, beam: BeamState, rows: Tensor, score: Tensor, best: BestHypotheses) -> None:
    """Counts and adds the finished ones among the W best continuations: score [P, 2 W], -inf for an unfinished one."""
    score, rows = score[:, : config.beam], rows[:, : config.beam]
    best.count[beam.images] += score.isfinite().sum(dim=1)
    length = beam.tokens.shape[1]  # the words so far and the end
    best.add_finished(beam, rows, score / length**config.length_penalty)
