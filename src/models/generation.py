"""Captions from any decoder, in batches: greedy, beam search, nucleus sampling.

Notation: P images, W unfinished captions an image (the beam), R = P W of them, V tokens, N places of the grid, S steps.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from src.config.schema import GenerationConfig
from src.data.tokenizer import END

NEVER = float("-inf")


class StepDecoder(Protocol):
    """A decoder's methods that generation calls. The state's select(rows) repeats, reorders or drops captions."""

    def start(self, grid: Tensor) -> Any:
        """The state of one caption an image, from grid [P, N, C]."""

    def step(self, state: Any, tokens: Tensor) -> tuple[Tensor, Any, Tensor]:
        """Logits [R, V], the next state and attention [R, N], from the last tokens [R]."""


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


def top_continuations(beam: BeamState, logp: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Scores and places (row in its image's W, times V, plus token) of each image's 2 `width` best continuations.

    Beam search and greedy captions both use it: bf16 logits are often equal, and argmax would choose another of them.
    """
    total = (beam.score.unsqueeze(1) + logp).view(len(beam.images), -1)
    score, places = total.topk(min(2 * width, total.shape[1]), dim=1)
    return score, places


def single_step(beam: BeamState, logp: Tensor, token: Tensor, best: BestHypotheses) -> BeamState:
    """A step with one caption an image: its token [R] extends it, or finishes it where that is the end token."""
    score = beam.score + logp.gather(1, token.unsqueeze(1)).squeeze(1)
    finished = (token == END).nonzero().squeeze(1)
    best.add(beam.images[finished], score[finished], beam.tokens[finished, 1:], beam.attention_of(finished))
    unfinished = (token != END).nonzero().squeeze(1)
    return beam.extend(unfinished, token[unfinished], score[unfinished], unfinished)


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
