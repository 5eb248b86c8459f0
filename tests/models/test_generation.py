"""Generation against brute force over every caption of a tiny vocabulary."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from src.config.schema import DecoderConfig, GenerationConfig
from src.data.tokenizer import END, PAD, UNK
from src.models.decoders.recurrent import RecurrentDecoder
from src.models.generation import generate, generate_beams, repeated_ngrams, top_p_filter

STYLE, WORDS = 3, [4, 5, 6]
SPECIAL = [PAD, UNK, STYLE]
V, C, LONGEST = 7, 5, 3


@pytest.fixture
def decoder() -> RecurrentDecoder:
    torch.manual_seed(3)
    decoder = RecurrentDecoder(DecoderConfig(embedding=8, hidden=8, attention_size=4), V, C)
    with torch.no_grad():  # far from even, and fond of what must never be produced
        for parameter in decoder.parameters():
            parameter.mul_(4).add_(0.1 * torch.randn_like(parameter))
        decoder.vocabulary.bias[SPECIAL] = 3.0
    return decoder.eval()


@pytest.fixture
def grid() -> Tensor:
    return 2 * torch.randn(6, 4, C, generator=torch.Generator().manual_seed(5))


@torch.inference_mode()
def scored(decoder: RecurrentDecoder, grid: Tensor, caption: tuple[int, ...]) -> float:
    """Log probability of a caption and its end, given that no special token is produced, nor an end at the start."""
    tokens = torch.tensor([[[STYLE, *caption, END]]])
    logits = decoder(grid.unsqueeze(0), tokens)[0, 0]
    logits[:, SPECIAL] = float("-inf")
    logits[0, END] = float("-inf")
    return float(logits.log_softmax(dim=1).gather(1, tokens[0, 0, 1:].unsqueeze(1)).sum())


def best(decoder: RecurrentDecoder, grid: Tensor, penalty: float) -> tuple[tuple[int, ...], float]:
    captions = itertools.chain.from_iterable(itertools.product(WORDS, repeat=n) for n in range(1, LONGEST + 1))
    rated = {c: scored(decoder, grid, c) / (len(c) + 1) ** penalty for c in captions}
    return max(rated.items(), key=lambda item: item[1])


def run(decoder: RecurrentDecoder, grid: Tensor, **changes: object) -> list:
    config = replace(GenerationConfig(max_length=LONGEST, no_repeat=0), **changes)  # type: ignore[arg-type]
    return generate(decoder, grid, torch.full((len(grid),), STYLE), config, SPECIAL, attention=True)


def test_a_wide_beam_finishes_every_caption_there_is(decoder: RecurrentDecoder, grid: Tensor) -> None:
    captions = [c for n in range(1, LONGEST + 1) for c in itertools.product(WORDS, repeat=n)]
    config = GenerationConfig(max_length=LONGEST, no_repeat=0, beam=3 * len(captions), length_penalty=0.7)
    found = generate_beams(decoder, grid, torch.full((len(grid),), STYLE), config, SPECIAL, attention=True)
    for beam, one in zip(found, grid, strict=True):
        expected = {c: scored(decoder, one, c) / (len(c) + 1) ** 0.7 for c in captions}
        assert {tuple(each.tokens): each.score for each in beam} == pytest.approx(expected, abs=1e-4)
        assert [each.score for each in beam] == sorted((each.score for each in beam), reverse=True)
        assert all(len(each.attention) == len(each.tokens) + 1 for each in beam)


@pytest.mark.parametrize("changes", [{"beam": 2}, {"beam": 3, "no_repeat": 2}, {"method": "greedy"}])
def test_the_first_of_a_beam_is_the_caption(decoder: RecurrentDecoder, grid: Tensor, changes: dict) -> None:
    config = replace(GenerationConfig(max_length=LONGEST, no_repeat=0), **changes)
    beams = generate_beams(decoder, grid, torch.full((len(grid),), STYLE), config, SPECIAL)
    for beam, one in zip(beams, run(decoder, grid, **changes), strict=True):
        assert beam[0].tokens == one.tokens
        assert beam[0].score == pytest.approx(one.score, abs=1e-5)
        assert len(beam) == (1 if config.method == "greedy" else config.beam)


def test_several_samples_of_a_photo_are_drawn_as_likely_as_the_model_says(
    decoder: RecurrentDecoder, grid: Tensor
) -> None:
    with torch.no_grad():  # probabilities that can be told apart
        decoder.vocabulary.weight.mul_(0.3)
    photos, each = grid[:2], 4000
    config = GenerationConfig(method="nucleus", top_p=1.0, no_repeat=0, max_length=LONGEST)
    drawn = generate(decoder, photos, torch.full((2,), STYLE), config, SPECIAL, each=each)
    for photo in range(2):
        own = [tuple(caption.tokens) for caption in drawn[photo * each : (photo + 1) * each]]
        for caption in {*own[:50]}:
            expected = np.exp(scored(decoder, photos[photo], caption))
            deviation = np.sqrt(expected * (1 - expected) / each)
            if len(caption) < LONGEST:  # at the longest length the end is forced
                assert abs(own.count(caption) / each - expected) < 5 * deviation + 1e-3


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.5])
def test_a_full_beam_is_brute_force(decoder: RecurrentDecoder, grid: Tensor, penalty: float) -> None:
    found = run(decoder, grid, method="beam", beam=40, length_penalty=penalty)
    for photo, caption in zip(grid, found, strict=True):
        tokens, score = best(decoder, photo, penalty)
        assert tuple(caption.tokens) == tokens
        assert caption.score == pytest.approx(score, abs=1e-4)


def test_a_beam_of_one_is_greedy(decoder: RecurrentDecoder, grid: Tensor) -> None:
    greedy = run(decoder, grid, method="greedy", max_length=8, length_penalty=0.0)
    beam = run(decoder, grid, method="beam", beam=1, max_length=8, length_penalty=0.0)
    assert [g.tokens for g in greedy] == [g.tokens for g in beam]
    assert [g.score for g in greedy] == pytest.approx([g.score for g in beam], abs=1e-5)
    assert len({tuple(g.tokens) for g in greedy}) > 1


def test_a_beam_of_one_is_greedy_where_bf16_makes_words_equal() -> None:
    torch.manual_seed(3)
    size = 400
    decoder = RecurrentDecoder(DecoderConfig(embedding=8, hidden=8, attention_size=4), size, C).eval()
    decoder.vocabulary.bias.data.add_(4.0)  # there bf16 numbers are 1 / 32 apart
    many = torch.randn(32, 4, C)
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder.step(decoder.start(many), torch.full((32,), STYLE))[0]
        greedy = run(decoder, many, method="greedy", max_length=8)
        beam = run(decoder, many, method="beam", beam=1, max_length=8)
    assert (logits.topk(2, dim=1).values.diff(dim=1) == 0).any()
    assert [g.tokens for g in greedy] == [g.tokens for g in beam]


def test_greedy_takes_the_likeliest_word(decoder: RecurrentDecoder, grid: Tensor) -> None:
    for photo, caption in zip(grid, run(decoder, grid, method="greedy"), strict=True):
        tokens = [STYLE]
        for _ in range(LONGEST):
            logits = decoder(photo.unsqueeze(0), torch.tensor([[[*tokens, END]]]))[0, 0, -1]
            logits[SPECIAL if len(tokens) > 1 else [*SPECIAL, END]] = float("-inf")  # a caption has a word
            tokens.append(int(logits.argmax()))
        expected = tokens[1:] if END not in tokens else tokens[1 : tokens.index(END)]
        assert caption.tokens == expected


@pytest.mark.parametrize("method", ["greedy", "beam", "nucleus"])
def test_special_tokens_are_never_produced(decoder: RecurrentDecoder, grid: Tensor, method: str) -> None:
    produced = {t for g in run(decoder, grid, method=method, max_length=12, beam=3) for t in g.tokens}
    assert produced
    assert produced <= set(WORDS)


@pytest.mark.parametrize("method", ["greedy", "beam", "nucleus"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_sequence_stands_twice(decoder: RecurrentDecoder, grid: Tensor, method: str, size: int) -> None:
    with torch.no_grad():
        decoder.vocabulary.bias[END] = -4.0  # captions as long as they may be
    for caption in run(decoder, grid, method=method, max_length=12, no_repeat=size):
        windows = [tuple(caption.tokens[i : i + size]) for i in range(len(caption.tokens) - size + 1)]
        assert len(windows) == len(set(windows))
    free = run(decoder, grid, method=method, max_length=12)
    assert any(len(g.tokens) > len(set(zip(g.tokens, g.tokens[1:], strict=False))) + 1 for g in free)


def test_nucleus_is_seeded_and_cold_is_greedy(decoder: RecurrentDecoder, grid: Tensor) -> None:
    def words(**changes: object) -> list[list[int]]:
        return [g.tokens for g in run(decoder, grid, method="nucleus", max_length=8, **changes)]

    assert words(seed=1) == words(seed=1)
    assert len({str(words(seed=seed)) for seed in range(5)}) > 1
    assert words(temperature=0.0) == [g.tokens for g in run(decoder, grid, method="greedy", max_length=8)]


def test_nucleus_keeps_the_least_that_holds_the_mass() -> None:
    logp = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert top_p_filter(logp, 1.0, 0.79)[0].nonzero().flatten().tolist() == [0, 1]
    assert top_p_filter(logp, 1.0, 0.81)[0].nonzero().flatten().tolist() == [0, 1, 2]
    assert top_p_filter(logp, 1.0, 0.0)[0].nonzero().flatten().tolist() == [0]
    torch.testing.assert_close(top_p_filter(logp, 2.0, 1.0), (logp / 2).softmax(dim=1))


def test_repeats_bans_what_would_stand_twice() -> None:
    tokens = torch.tensor([[4, 5, 6, 4, 5], [4, 4, 4, 4, 4], [4, 5, 6, 7, 8]])
    assert repeated_ngrams(tokens, 3, 9).nonzero().tolist() == [[0, 6], [1, 4]]
    assert repeated_ngrams(tokens, 1, 9)[0].nonzero().flatten().tolist() == [4, 5, 6]
    assert not repeated_ngrams(tokens[:, :2], 3, 9).any()


def test_attention_is_kept_for_each_token(decoder: RecurrentDecoder, grid: Tensor) -> None:
    for caption in run(decoder, grid, method="beam", beam=3):
        assert caption.attention.shape == (len(caption.tokens) + 1, 4)
        torch.testing.assert_close(caption.attention.sum(dim=1), torch.ones(len(caption.tokens) + 1))


def test_photos_do_not_touch_each_other(decoder: RecurrentDecoder, grid: Tensor) -> None:
    together = run(decoder, grid, method="beam", beam=2, max_length=8)
    alone = [run(decoder, grid[i : i + 1], method="beam", beam=2, max_length=8)[0] for i in range(len(grid))]
    assert [g.tokens for g in together] == [g.tokens for g in alone]
    assert run(decoder, grid[:0]) == []


@dataclass
class Pair:
    """Two decoders' states, as an ensemble would hold them."""

    states: list

    def select(self, rows: Tensor) -> "Pair":
        return Pair([state.select(rows) for state in self.states])


class Ensemble:
    """The same interface over several decoders: their probabilities' mean."""

    def __init__(self, decoders: list[RecurrentDecoder]) -> None:
        self.decoders = decoders

    def start(self, grid: Tensor) -> Pair:
        return Pair([decoder.start(grid) for decoder in self.decoders])

    def step(self, state: Pair, tokens: Tensor) -> tuple[Tensor, Pair, Tensor]:
        steps = [d.step(s, tokens) for d, s in zip(self.decoders, state.states, strict=True)]
        p = torch.stack([logits.softmax(dim=1) for logits, _, _ in steps]).mean(dim=0)
        return p.log(), Pair([s for _, s, _ in steps]), steps[0][2]


def test_any_decoder_will_do(decoder: RecurrentDecoder, grid: Tensor) -> None:
    twice = generate(Ensemble([decoder, decoder]), grid, torch.full((6,), STYLE), GenerationConfig(), SPECIAL)
    once = generate(decoder, grid, torch.full((6,), STYLE), GenerationConfig(), SPECIAL)
    assert [g.tokens for g in twice] == [g.tokens for g in once]
