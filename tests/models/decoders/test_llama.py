"""The LLaMA decoder against a plain version of it, and its two ways against each other."""

import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from src.common.errors import UserError
from src.config.schema import DecoderConfig, GenerationConfig
from src.models.decoders.base import make_decoder
from src.models.decoders.llama import LlamaDecoder, Options
from src.models.generation import generate
from src.models.losses._cross_entropy import caption_cross_entropy
from tests.models import plain_llama
from tests.models.contract import (
    C,
    V,
    a_grid,
    check_bf16_gradients,
    check_learns_what_it_sees,
    check_missing_captions_change_nothing,
    check_stepwise_is_forward,
    some_tokens,
)

SIZES = Options(dim=24, layers=2, heads=6, kv_heads=2, feed_forward=1.5, rope_base=100.0, encoder_layers=1)
CONFIG = DecoderConfig(kind="llama", options=asdict(SIZES))
SHAPES = [{}, {"encoder_layers": 0}, {"kv_heads": 6, "layers": 1}, {"kv_heads": 1, "encoder_layers": 2}]


@pytest.fixture
def grid() -> Tensor:
    return a_grid()


@pytest.fixture
def tokens() -> Tensor:
    """Three photos with four captions each: of all lengths, one missing, one of the style token alone."""
    return some_tokens([[8, 2, 5, 3], [0, 7, 8, 4], [1, 8, 6, 3]])


def make(sizes: dict | None = None, **changes: object) -> LlamaDecoder:
    torch.manual_seed(0)
    config = replace(CONFIG, options=asdict(replace(SIZES, **(sizes or {}))), **changes)  # type: ignore[arg-type]
    decoder = make_decoder(config, V, C)
    assert isinstance(decoder, LlamaDecoder)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():  # nothing stays at the 0 or 1 it starts with
            if name.endswith("bias") or "norm" in name:
                parameter.normal_(mean=1.0, std=0.3)
    return decoder.eval()


@pytest.mark.parametrize("sizes", SHAPES)
def test_forward_is_the_plain_one(grid: Tensor, tokens: Tensor, sizes: dict) -> None:
    decoder = make(sizes)
    logits = decoder(grid, tokens)
    assert logits.shape == (3, 4, 8, V)
    assert not logits[tokens[:, :, 1:] == 0].any()
    for b, k in [(0, 1), (1, 2), (2, 3)]:
        count = int((tokens[b, k] != 0).sum()) - 1
        expected = plain_llama.logits(decoder, grid[b], tokens[b, k, :count])
        torch.testing.assert_close(logits[b, k, :count], expected, atol=1e-5, rtol=1e-5)


def test_loss_is_that_of_forward(grid: Tensor, tokens: Tensor) -> None:
    decoder, other = make(), make()
    loss, expected = decoder.loss(grid, tokens, 0.1), caption_cross_entropy(other(grid, tokens), tokens, 0.1)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for (name, a), b in zip(decoder.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_scaled_loss_is_a_weighted_mean_over_words(grid: Tensor, tokens: Tensor) -> None:
    decoder = make()
    scale, kept = torch.randn(3, 4, generator=torch.Generator().manual_seed(3)), tokens[:, :, 1:] != 0
    each = torch.nn.functional.cross_entropy(decoder(grid, tokens)[kept], tokens[:, :, 1:][kept], reduction="none")
    expected = (each * scale.unsqueeze(2).expand_as(kept)[kept]).mean()
    torch.testing.assert_close(decoder.loss(grid, tokens, scale=scale), expected)


@pytest.mark.parametrize("sizes", SHAPES)
def test_stepwise_is_forward(grid: Tensor, tokens: Tensor, sizes: dict) -> None:
    check_stepwise_is_forward(make(sizes), grid, tokens)


@pytest.mark.parametrize("rows", [[2, 0, 0, 1], [1, 1, 1], [0, 0, 2, 2], [2]])
def test_stepwise_is_forward_after_a_choice(grid: Tensor, tokens: Tensor, rows: list[int]) -> None:
    """Captions repeated, reordered and dropped after two words, then gone on with one word each."""
    decoder = make()
    start, word = tokens[:, 1, :2], torch.arange(5, 5 + len(rows))
    state = decoder.start(grid)
    for step in range(2):
        _, state, _ = decoder.step(state, start[:, step])
    chosen, _, _ = decoder.step(state.select(torch.tensor(rows)), word)
    whole = torch.cat([start[rows], word.unsqueeze(1), torch.full((len(rows), 1), 4)], dim=1)
    expected = decoder(grid[rows], whole.unsqueeze(1))[:, 0, 2]
    torch.testing.assert_close(chosen, expected, atol=1e-5, rtol=1e-5)


def test_the_state_drops_photos_that_no_caption_needs(grid: Tensor) -> None:
    state = make().start(grid)
    assert len(state.select(torch.tensor([2, 0, 0])).shared[0]) == 3
    assert len(state.select(torch.tensor([1, 1])).shared[0]) == 1


def test_a_later_word_changes_no_earlier_logit(grid: Tensor, tokens: Tensor) -> None:
    decoder = make()
    other = tokens.clone()
    other[0, 0, 4] = tokens[0, 0, 4] % (V - 5) + 5
    before, after = decoder(grid, tokens)[0, 0], decoder(grid, other)[0, 0]
    assert torch.equal(before[:4], after[:4])
    assert not torch.allclose(before[4:7], after[4:7])


def test_captions_that_are_missing_change_nothing(grid: Tensor, tokens: Tensor) -> None:
    check_missing_captions_change_nothing(make(), grid, tokens)


def test_words_are_tied_and_small() -> None:
    decoder = make({"dim": 640, "heads": 32, "kv_heads": 8})
    assert decoder.vocabulary.weight is decoder.words.weight
    assert decoder.words.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert make(tied=False).vocabulary.weight is not make(tied=False).words.weight


def test_before_training_all_words_are_about_as_likely_a_words_repetition_too(grid: Tensor, tokens: Tensor) -> None:
    decoder = make({"dim": 512, "heads": 8, "kv_heads": 2})
    assert float(decoder.loss(grid, tokens)) == pytest.approx(math.log(V), abs=0.6)
    again = decoder(grid, tokens).log_softmax(-1).gather(-1, tokens[:, :, :-1, None])[tokens[:, :, 1:] != 0]
    assert float(again.mean()) == pytest.approx(-math.log(V), abs=1.0)


@pytest.mark.parametrize("dropout", ["dropout", "word_dropout", "grid_dropout"])
def test_each_dropout_is_in_use(grid: Tensor, tokens: Tensor, dropout: str) -> None:
    none = {"dropout": 0.0, "word_dropout": 0.0, "grid_dropout": 0.0}
    quiet, noisy = make(**none).train(), make(**{**none, dropout: 0.5}).train()
    assert torch.equal(quiet(grid, tokens), quiet(grid, tokens))
    assert not torch.allclose(noisy(grid, tokens), noisy(grid, tokens))


def test_bf16_gradients_point_where_fp32_ones_do(grid: Tensor, tokens: Tensor) -> None:
    check_bf16_gradients(make(), make(), grid, tokens)


@pytest.mark.parametrize("method", ["greedy", "beam", "nucleus"])
def test_photos_do_not_touch_each_other(grid: Tensor, method: str) -> None:
    decoder, style = make(), torch.full((3,), 3)
    config = GenerationConfig(method=method, beam=3, max_length=6, temperature=0.01)  # type: ignore[arg-type]
    together = generate(decoder, grid, style, config, [0, 1, 3], attention=True)
    for row, caption in enumerate(together):
        (alone,) = generate(decoder, grid[row : row + 1], style[:1], config, [0, 1, 3], attention=True)
        assert caption.tokens == alone.tokens
        assert len(caption.tokens)
        assert caption.attention is not None
        torch.testing.assert_close(caption.attention.sum(dim=1), torch.ones(len(caption.tokens) + 1))


def test_learns_to_repeat_what_it_sees() -> None:
    torch.manual_seed(0)
    still = replace(CONFIG, dropout=0.0, word_dropout=0.0, grid_dropout=0.0)
    check_learns_what_it_sees(LlamaDecoder(still, V, C), lr=0.01, steps=60)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"dim": 25}, "dim 25 is no multiple of heads 6"),
        ({"kv_heads": 4}, "heads 6 is no multiple of kv_heads 4"),
        ({"dim": 18}, "a head has 3 values"),
    ],
)
def test_bad_sizes_are_told_in_one_line(sizes: dict, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        make(sizes)
    assert "\n" not in str(error.value)
