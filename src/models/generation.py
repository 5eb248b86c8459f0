"""Captions from any decoder, in batches: greedy, beam search, nucleus sampling.

Notation: P photos, W captions a photo in work (the beam), R = P W of them, V tokens, N places of the grid, S steps.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from src.config.schema import GenerationConfig
from src.data.tokenizer import END

NEVER = float("-inf")


class CaptionDecoder(Protocol):
    """What generation needs. The state's select(rows) repeats, reorders or drops captions."""

    def start(self, grid: Tensor) -> Any:
        """The state of one caption a photo, from grid [P, N, C]."""

    def step(self, state: Any, tokens: Tensor) -> tuple[Tensor, Any, Tensor]:
        """Logits [R, V], the next state and attention [R, N], from the last tokens [R]."""


@dataclass
class GeneratedCaption:
    """A caption.

    Attributes:
        tokens: words, without style and end tokens.
        score: log probability, the end token's included; in a beam over length ** length_penalty.
        attention: [S, N], where each token looked; only where asked for.
    """

    tokens: list[int]
    score: float
    attention: Tensor | None = None


@dataclass
class BeamState:
    """Captions in work, R = P W rows, photo by photo.

    Attributes:
        photos: [P] int64, which of the caller's photos are still in work.
        state: the decoder's, of R captions.
        tokens: [R, S] int64 so far, the style token first.
        score: [R] log probability so far; -inf for a place in the beam that nothing holds.
        looks: [R, S, N] attention so far, or None.
    """

    photos: Tensor
    state: Any
    tokens: Tensor
    score: Tensor
    looks: Tensor | None

    def follow(self, rows: Tensor, tokens: Tensor, score: Tensor, photos: Tensor) -> "BeamState":
        """The captions `rows` with one token more each, of the photos at places `photos`."""
        longer = torch.cat([self.tokens[rows], tokens.unsqueeze(1)], dim=1)
        looks = None if self.looks is None else self.looks[rows]
        return BeamState(self.photos[photos], self.state.select(rows), longer, score, looks)


class BestHypotheses:
    """The best finished caption of each photo so far, and how many have finished."""

    def __init__(self, photos: int, longest: int, places: int, device: torch.device) -> None:
        self.count = torch.zeros(photos, dtype=torch.long, device=device)
        self.score = torch.full((photos,), NEVER, device=device)
        self.tokens = torch.full((photos, longest), END, device=device)
        self.looks = torch.zeros(photos, longest if places else 0, places, device=device)

    def offer(self, photos: Tensor, score: Tensor, tokens: Tensor, looks: Tensor | None) -> None:
        """Takes a caption where it is better: [P'] photos, none twice, [P'] score, [P', S] tokens, [P', S, N] looks."""
        better = score > self.score[photos]
        photos = photos[better]
        self.score[photos] = score[better]
        self.tokens[photos] = END
        self.tokens[photos, : tokens.shape[1]] = tokens[better]
        if looks is not None:
            self.looks[photos] = 0.0
            self.looks[photos, : looks.shape[1]] = looks[better]

    def take(self, work: BeamState, rows: Tensor, score: Tensor) -> None:
        """Takes the best of captions that have ended: rows [P, W] of the work, score [P, W], -inf for none."""
        top, place = score.max(dim=1)
        rows = rows.gather(1, place.unsqueeze(1)).squeeze(1)
        looks = None if work.looks is None else work.looks[rows]
        self.offer(work.photos, top, work.tokens[rows, 1:], looks)

    def listed(self) -> list[GeneratedCaption]:
        """One caption a photo, on the CPU."""
        rows = [row[: row.index(END)] for row in self.tokens.tolist()]
        looks: list[Tensor | None] = [None] * len(rows)
        if self.looks.shape[1]:
            looks = [look[: len(row) + 1] for row, look in zip(rows, self.looks.cpu(), strict=True)]
        return [GeneratedCaption(*parts) for parts in zip(rows, self.score.tolist(), looks, strict=True)]


class AllHypotheses(BestHypotheses):
    """Every finished caption of each photo.

    No score is kept, so that nothing leaves early because it cannot overtake the best: a photo is in work until W
    captions have finished, the best of which is the one that Best finds.
    """

    def __init__(self, photos: int, device: torch.device) -> None:
        super().__init__(photos, 0, 0, device)
        self.found: list[list[GeneratedCaption]] = [[] for _ in range(photos)]

    def offer(self, photos: Tensor, score: Tensor, tokens: Tensor, looks: Tensor | None) -> None:
        """Takes every caption with a finite score; shapes as Best's."""
        for i, (photo, value) in enumerate(zip(photos.tolist(), score.tolist(), strict=True)):
            if value > NEVER:
                look = None if looks is None else looks[i].cpu()
                self.found[photo].append(GeneratedCaption(tokens[i].tolist(), value, look))

    def take(self, work: BeamState, rows: Tensor, score: Tensor) -> None:
        """As Best's, but takes all of them."""
        for place in range(rows.shape[1]):
            looks = None if work.looks is None else work.looks[rows[:, place]]
            self.offer(work.photos, score[:, place], work.tokens[rows[:, place], 1:], looks)

    def ranked(self, most: int) -> list[list[GeneratedCaption]]:
        """At most so many captions of each photo, the best first."""
        return [sorted(found, key=lambda one: -one.score)[:most] for found in self.found]


@torch.inference_mode()
def generate(
    decoder: CaptionDecoder,
    grid: Tensor,
    style: Tensor,
    config: GenerationConfig,
    special: list[int],
    attention: bool = False,
    each: int = 1,
) -> list[GeneratedCaption]:
    """One caption for each photo, or `each` of them one after the other, to sample.

    Args:
        decoder: in eval mode.
        grid: [P, N, C].
        style: [P] int64, the token that each caption starts with.
        config: how captions are written.
        special: tokens that are never produced: padding, unknown, styles. The end token is not among them.
        attention: keep where each token looked.
        each: captions of a photo.
    """
    count, places = len(grid) * each, grid.shape[1]
    best = BestHypotheses(count, config.max_length + 2, places if attention else 0, grid.device)
    _write(decoder, grid, style, config, special, best, attention, each)
    return best.listed()


@torch.inference_mode()
def generate_beams(
    decoder: CaptionDecoder,
    grid: Tensor,
    style: Tensor,
    config: GenerationConfig,
    special: list[int],
    attention: bool = False,
) -> list[list[GeneratedCaption]]:
    """The finished captions of each photo's beam, the best first, W of them unless the vocabulary has fewer.

    The first is what `generate` gives. Greedy captions and samples are one a photo. Arguments as `generate`'s.
    """
    found = AllHypotheses(len(grid), grid.device)
    _write(decoder, grid, style, config, special, found, attention, 1)
    return found.ranked(config.beam)


def _write(
    decoder: CaptionDecoder,
    grid: Tensor,
    style: Tensor,
    config: GenerationConfig,
    special: list[int],
    best: BestHypotheses,
    attention: bool,
    each: int,
) -> None:
    """Step by step until no photo is in work; what ends goes to `best`. Arguments as `generate`'s."""
    count, places = len(grid) * each, grid.shape[1]
    if not count:
        return
    looks = grid.new_zeros(count, 0, places, dtype=torch.float32) if attention else None
    score = torch.zeros(count, device=grid.device)
    photos = torch.arange(count, device=grid.device)
    state = decoder.start(grid) if each == 1 else decoder.start(grid).select(photos // each)
    work = BeamState(photos, state, style.repeat_interleave(each).unsqueeze(1), score, looks)
    never = torch.tensor(special, dtype=torch.long, device=grid.device)
    seeded = torch.Generator(device=grid.device).manual_seed(config.seed)
    for step in range(config.max_length + 1):
        work, logp = decoder_step(decoder, config, never, work, last=step == config.max_length)
        if config.method == "beam":
            work = beam_step(config, work, logp, best)
        else:
            token = (
                sample_token(logp, config, seeded)
                if config.method == "nucleus"
                else top_continuations(work, logp, 1)[1][:, 0]
            )
            work = follow_single(work, logp, token, best)
        if not len(work.photos):
            break


def top_continuations(work: BeamState, logp: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Scores and places (row in its photo's W, times V, and token) of each photo's 2 `width` best continuations.

    A beam and a greedy caption come by them alike: bf16 logits are often equal, and argmax takes another one of them.
    """
    total = (work.score.unsqueeze(1) + logp).view(len(work.photos), -1)
    score, places = total.topk(min(2 * width, total.shape[1]), dim=1)
    return score, places


def follow_single(work: BeamState, logp: Tensor, token: Tensor, best: BestHypotheses) -> BeamState:
    """One caption a photo goes on with its token [R], or leaves where that is the end."""
    score = work.score + logp.gather(1, token.unsqueeze(1)).squeeze(1)
    ended = token == END
    end = ended.nonzero().squeeze(1)
    best.offer(work.photos[end], score[end], work.tokens[end, 1:], None if work.looks is None else work.looks[end])
    going = (~ended).nonzero().squeeze(1)
    return work.follow(going, token[going], score[going], going)


def beam_step(config: GenerationConfig, work: BeamState, logp: Tensor, best: BestHypotheses) -> BeamState:
    """A step of beam search: of all continuations of a photo's captions, the best W unfinished go on.

    A continuation with the end token has finished if it is among the best W. A photo leaves when W captions have
    finished, or when no unfinished one can overtake the best: its log probability only falls, over the longest length.
    """
    photos, vocabulary = len(work.photos), logp.shape[1]
    width = len(work.tokens) // photos
    score, flat = top_continuations(work, logp, config.beam)
    rows = flat // vocabulary + width * torch.arange(photos, device=flat.device).unsqueeze(1)
    token = flat % vocabulary
    _finish(config, work, rows, score.masked_fill(token != END, NEVER), best)
    score, order = score.masked_fill(token == END, NEVER).topk(min(config.beam, score.shape[1]), dim=1)
    bound = score[:, 0] / (config.max_length + 1) ** config.length_penalty
    left = (best.count[work.photos] >= config.beam) | (best.score[work.photos] >= bound)
    kept = (~left).nonzero().squeeze(1)
    rows, token = rows.gather(1, order)[kept].flatten(), token.gather(1, order)[kept].flatten()
    return work.follow(rows, token, score[kept].flatten(), kept)


def _finish(config: GenerationConfig, work: BeamState, rows: Tensor, score: Tensor, best: BestHypotheses) -> None:
    """Counts the ends among the W best continuations (score [P, 2 W], -inf for no end), and hands them over."""
    score, rows = score[:, : config.beam], rows[:, : config.beam]
    best.count[work.photos] += score.isfinite().sum(dim=1)
    length = work.tokens.shape[1]  # the words so far and the end
    best.take(work, rows, score / length**config.length_penalty)


def decoder_step(
    decoder: CaptionDecoder, config: GenerationConfig, never: Tensor, work: BeamState, last: bool
) -> tuple[BeamState, Tensor]:
    """One step of the decoder: the work with its new state, and log probabilities [R, V] of allowed tokens.

    Probabilities are the model's over the allowed tokens; what is banned has -inf. The last step allows the end alone.
    """
    logits, state, looks = decoder.step(work.state, work.tokens[:, -1])
    logits = logits.float().index_fill_(1, never, NEVER)
    if work.tokens.shape[1] == 1 and not last:
        logits[:, END] = NEVER  # a caption has a word
    logp = logits.log_softmax(dim=1)
    if last:
        end = logp[:, END].clone()
        logp.fill_(NEVER)[:, END] = end
    elif config.no_repeat:
        logp.masked_fill_(repeated_ngrams(work.tokens[:, 1:], config.no_repeat, logp.shape[1]), NEVER)
    if work.looks is not None:
        looks = torch.cat([work.looks, looks.float().unsqueeze(1)], dim=1)
    return BeamState(work.photos, state, work.tokens, work.score, None if work.looks is None else looks), logp


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


def sample_token(logp: Tensor, config: GenerationConfig, seeded: torch.Generator) -> Tensor:
    """A token [R] from the nucleus."""
    return torch.multinomial(top_p_filter(logp, config.temperature, config.top_p), 1, generator=seeded).squeeze(1)


def top_p_filter(logp: Tensor, temperature: float, top_p: float) -> Tensor:
    """Probabilities [R, V] with all but the likeliest tokens that hold `top_p` of the mass set to 0; not normalised."""
    p = (logp / max(temperature, 1e-4)).softmax(dim=1)
    if top_p >= 1.0:
        return p
    ordered, tokens = p.sort(dim=1, descending=True)
    beyond = ordered.cumsum(dim=1) - ordered >= top_p
    beyond[:, 0] = False
    return torch.zeros_like(p).scatter_(1, tokens, ordered.masked_fill(beyond, 0.0))
