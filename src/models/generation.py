"""Captions from any decoder, in batches: greedy, beam search, nucleus sampling, and candidates to choose from.

Notation: P images, W unfinished captions an image (the beam), R = P W of them, V tokens, N places of the grid, S steps.
"""

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from src.config.schema import GenerationConfig
from src.data.tokenizer import END
from src.models.beam_search import (
    NEVER,
    AllHypotheses,
    BeamState,
    BestHypotheses,
    GeneratedCaption,
    beam_step,
    top_continuations,
)


class StepDecoder(Protocol):
    """A decoder's methods that generation calls. The state's select(rows) repeats, reorders or drops captions."""

    def start(self, grid: Tensor) -> Any:
        """The state of one caption an image, from grid [P, N, C]."""

    def step(self, state: Any, tokens: Tensor) -> tuple[Tensor, Any, Tensor]:
        """Logits [R, V], the next state and attention [R, N], from the last tokens [R]."""


@torch.inference_mode()
def generate(
    decoder: StepDecoder,
    grid: Tensor,
    style: Tensor,
    config: GenerationConfig,
    special: list[int],
    attention: bool = False,
    each: int = 1,
) -> list[GeneratedCaption]:
    """One caption for each image, or `each` of them one after the other, to sample.

    Args:
        decoder: in eval mode.
        grid: [P, N, C].
        style: [P] int64, the token that each caption starts with.
        config: how captions are written.
        special: tokens that are never produced: padding, unknown, styles. The end token is not among them.
        attention: store each token's attention.
        each: captions of an image.
    """
    count, places = len(grid) * each, grid.shape[1]
    best = BestHypotheses(count, config.max_length + 2, places if attention else 0, grid.device)
    _decode(decoder, grid, style, config, special, best, attention, each)
    return best.captions()


@torch.inference_mode()
def generate_beams(
    decoder: StepDecoder,
    grid: Tensor,
    style: Tensor,
    config: GenerationConfig,
    special: list[int],
    attention: bool = False,
) -> list[list[GeneratedCaption]]:
    """The finished captions of each image's beam, the best first, W of them unless the vocabulary has fewer.

    The first is the caption of `generate`. Greedy captions and samples are one an image. Arguments as `generate`'s.
    """
    hypotheses = AllHypotheses(len(grid), grid.device)
    _decode(decoder, grid, style, config, special, hypotheses, attention, 1)
    return hypotheses.ranking(config.beam)


def generate_candidates(
    decoder: StepDecoder,
    grid: Tensor,
    style: Tensor,
    config: GenerationConfig,
    special: list[int],
    attention: bool = False,
) -> list[list[GeneratedCaption]]:
    """The captions of `generate_beams`, then config.rerank.samples samples of each image. Arguments as `generate`'s.

    Samples are scored as the beam's captions, over length ** length_penalty.
    """
    candidates, each = generate_beams(decoder, grid, style, config, special, attention), config.rerank.samples
    if each:
        sampling = replace(config, method="nucleus", temperature=config.rerank.temperature, top_p=1.0)
        for i, sample in enumerate(generate(decoder, grid, style, sampling, special, attention, each)):
            score = sample.score / (len(sample.tokens) + 1) ** config.length_penalty
            candidates[i // each].append(replace(sample, score=score))
    return candidates


def _decode(
    decoder: StepDecoder,
    grid: Tensor,
    style: Tensor,
    config: GenerationConfig,
    special: list[int],
    best: BestHypotheses,
    attention: bool,
    each: int,
) -> None:
    """Runs steps until no caption is unfinished, and adds the finished ones to `best`. Arguments as `generate`'s."""
    count, places = len(grid) * each, grid.shape[1]
    if not count:
        return
    weights = grid.new_zeros(count, 0, places, dtype=torch.float32) if attention else None
    score = torch.zeros(count, device=grid.device)
    images = torch.arange(count, device=grid.device)
    state = decoder.start(grid) if each == 1 else decoder.start(grid).select(images // each)
    beam = BeamState(images, state, style.repeat_interleave(each).unsqueeze(1), score, weights)
    banned = torch.tensor(special, dtype=torch.long, device=grid.device)
    generator = torch.Generator(device=grid.device).manual_seed(config.seed)
    for step in range(config.max_length + 1):
        beam, logp = decoder_step(decoder, config, banned, beam, last=step == config.max_length)
        if config.method == "beam":
            beam = beam_step(config, beam, logp, best)
        elif config.method == "nucleus":
            beam = single_step(beam, logp, sample_token(logp, config, generator), best)
        else:
            beam = single_step(beam, logp, top_continuations(beam, logp, 1)[1][:, 0], best)
        if not len(beam.images):
            break


def single_step(beam: BeamState, logp: Tensor, token: Tensor, best: BestHypotheses) -> BeamState:
    """A step with one caption an image: its token [R] extends it, or finishes it where that is the end token."""
    score = beam.score + logp.gather(1, token.unsqueeze(1)).squeeze(1)
    finished = (token == END).nonzero().squeeze(1)
    best.add(beam.images[finished], score[finished], beam.tokens[finished, 1:], beam.attention_of(finished))
    unfinished = (token != END).nonzero().squeeze(1)
    return beam.extend(unfinished, token[unfinished], score[unfinished], unfinished)


def decoder_step(
    decoder: StepDecoder, config: GenerationConfig, banned: Tensor, beam: BeamState, last: bool
) -> tuple[BeamState, Tensor]:
    """One step of the decoder: the beam with its new state, and log probabilities [R, V] of allowed tokens.

    Probabilities are the model's over the allowed tokens; others have -inf. The last step allows the end token alone.
    """
    logits, state, weights = decoder.step(beam.state, beam.tokens[:, -1])
    logits = logits.float().index_fill_(1, banned, NEVER)
    if beam.tokens.shape[1] == 1 and not last:
        logits[:, END] = NEVER  # a caption has at least one word
    logp = logits.log_softmax(dim=1)
    if last:
        end = logp[:, END].clone()
        logp.fill_(NEVER)[:, END] = end
    elif config.no_repeat:
        logp.masked_fill_(repeated_ngrams(beam.tokens[:, 1:], config.no_repeat, logp.shape[1]), NEVER)
    attention = beam.attention
    if attention is not None:
        attention = torch.cat([attention, weights.float().unsqueeze(1)], dim=1)
    return BeamState(beam.images, state, beam.tokens, beam.score, attention), logp


def repeated_ngrams(tokens: Tensor, size: int, vocabulary: int) -> Tensor:
    """[R, V] bool: tokens that would make a sequence of `size` tokens stand twice in a row of [R, S]."""
    banned = torch.zeros(len(tokens), vocabulary, dtype=torch.bool, device=tokens.device)
    if tokens.shape[1] < size:
        return banned
    windows = tokens.unfold(1, size, 1)
    tail = tokens[:, tokens.shape[1] - size + 1 :]
    same = (windows[:, :, :-1] == tail.unsqueeze(1)).all(dim=2)
    row, place = same.nonzero(as_tuple=True)
    banned[row, windows[row, place, -1]] = True
    return banned


def sample_token(logp: Tensor, config: GenerationConfig, generator: torch.Generator) -> Tensor:
    """A token [R] from the nucleus."""
    return torch.multinomial(top_p_filter(logp, config.temperature, config.top_p), 1, generator=generator).squeeze(1)


def top_p_filter(logp: Tensor, temperature: float, top_p: float) -> Tensor:
    """Probabilities [R, V] with all but the likeliest tokens that hold `top_p` of the mass set to 0; not normalised."""
    p = (logp / max(temperature, 1e-4)).softmax(dim=1)
    if top_p >= 1.0:
        return p
    ordered, tokens = p.sort(dim=1, descending=True)
    beyond = ordered.cumsum(dim=1) - ordered >= top_p
    beyond[:, 0] = False
    return torch.zeros_like(p).scatter_(1, tokens, ordered.masked_fill(beyond, 0.0))
