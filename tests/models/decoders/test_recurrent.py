"""The recurrent decoder against a plain version of it, and its two ways against each other."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from src.config.schema import DecoderConfig
from src.models.decoders.recurrent import RecurrentDecoder
from src.models.layers.attention_rnn_backward import AttentionRNNUnroll
from src.models.layers.packed_captions import pack_captions
from src.models.layers.rnn_cells import Cell, GRUCell, LSTMCell
from src.models.losses._cross_entropy import caption_cross_entropy
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
from tests.models.plain_recurrent import Plain

CONFIG = DecoderConfig(embedding=12, hidden=16, attention_size=8)


@pytest.fixture
def grid() -> Tensor:
    return a_grid()


@pytest.fixture
def tokens() -> Tensor:
    """Three photos with four captions each: of all lengths, one missing, one of the style token alone."""
    return some_tokens([[9, 2, 5, 3], [0, 7, 9, 4], [1, 8, 6, 3]])


def make(seed: int = 0, **changes: object) -> RecurrentDecoder:
    torch.manual_seed(seed)
    decoder = RecurrentDecoder(replace(CONFIG, **changes), V, C)  # type: ignore[arg-type]
    with torch.no_grad():
        decoder.vocabulary.bias.normal_()
    return decoder.eval()


def plain(decoder: RecurrentDecoder, **changes: object) -> Plain:
    reference = Plain(replace(CONFIG, **changes), V, C)  # type: ignore[arg-type]
    reference.take(decoder)
    return reference.eval()


@pytest.fixture(params=itertools.product(["lstm", "gru"], [1, 2, 3], ["none", "bahdanau", "gated"], ["state", "input"]))
def kind(request: pytest.FixtureRequest) -> dict:
    return dict(zip(["cell", "layers", "attention", "image"], request.param, strict=True))


def test_forward_is_the_plain_one(grid: Tensor, tokens: Tensor, kind: dict) -> None:
    decoder = make(**kind)
    logits, expected = decoder(grid, tokens), plain(decoder, **kind)(grid, tokens)
    kept = tokens[:, :, 1:] != 0
    assert logits.shape == (3, 4, 8, V)
    torch.testing.assert_close(logits[kept], expected[kept], atol=1e-5, rtol=1e-5)
    assert not logits[~kept].any()


def test_loss_and_gradients_are_the_plain_ones(grid: Tensor, tokens: Tensor, kind: dict) -> None:
    decoder = make(**kind)
    same_gradients(decoder, plain(decoder, **kind), grid, tokens)


@pytest.mark.parametrize("kind", [{"cell": "lstm"}, {"cell": "gru", "layers": 2, "attention": "bahdanau"}])
def test_doubly_stochastic_attention_too(grid: Tensor, tokens: Tensor, kind: dict) -> None:
    changes = {**kind, "doubly_stochastic": 0.7}
    decoder = make(**changes)
    same_gradients(decoder, plain(decoder, **changes), grid, tokens)
    assert decoder.loss(grid, tokens) > make(**kind).loss(grid, tokens)
    assert decoder.loss(grid, torch.zeros_like(tokens)) == 0


def same_gradients(decoder: RecurrentDecoder, reference: Plain, grid: Tensor, tokens: Tensor) -> None:
    loss, expected = decoder.loss(grid, tokens, 0.1), reference.loss(grid, tokens, 0.1)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    count = 0
    for theirs, ours in reference.gradients(decoder):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
        count += ours.numel()
    assert count == sum(parameter.numel() for parameter in decoder.parameters())


def test_loss_is_that_of_forward(grid: Tensor, tokens: Tensor) -> None:
    decoder = make()
    torch.testing.assert_close(
        decoder.loss(grid, tokens, 0.1), caption_cross_entropy(decoder(grid, tokens), tokens, 0.1)
    )


def test_stepwise_is_forward(grid: Tensor, tokens: Tensor, kind: dict) -> None:
    check_stepwise_is_forward(make(**kind), grid, tokens)


def test_captions_that_are_missing_change_nothing(grid: Tensor, tokens: Tensor) -> None:
    check_missing_captions_change_nothing(make(), grid, tokens)


def test_state_reorders(grid: Tensor) -> None:
    decoder = make()
    first = torch.tensor([3, 3, 3])
    _, state, _ = decoder.step(decoder.start(grid), first)
    rows = torch.tensor([2, 0, 0, 1])
    word = torch.tensor([5, 6, 7, 8])
    chosen, _, _ = decoder.step(state.select(rows), word)
    for place, row in enumerate(rows.tolist()):
        alone, _, _ = decoder.step(state.select(torch.tensor([row])), word[place : place + 1])
        torch.testing.assert_close(chosen[place], alone[0], atol=1e-6, rtol=1e-5)


def test_untied_words(grid: Tensor, tokens: Tensor) -> None:
    decoder = make(tied=False)
    assert decoder.vocabulary.weight is not decoder.words.weight
    decoder.loss(grid, tokens).backward()
    assert all(p.grad is not None for p in decoder.parameters())


def test_bf16_is_near_fp32(grid: Tensor, tokens: Tensor) -> None:
    decoder = make()
    with torch.autocast("cpu", torch.bfloat16):
        loss = decoder.loss(grid, tokens)
        half = decoder.loss(grid.half(), tokens)
    loss.backward()
    assert loss.item() == pytest.approx(decoder.loss(grid, tokens).item(), rel=0.02)
    assert half.item() == pytest.approx(loss.item(), rel=0.02)
    assert decoder.attention.score.grad is not None
    assert decoder.attention.score.grad.dtype == torch.float32


def test_bf16_gradients_point_where_fp32_ones_do(grid: Tensor, tokens: Tensor) -> None:
    check_bf16_gradients(make(), make(), grid, tokens)


def test_packing_keeps_every_word_once(tokens: Tensor) -> None:
    packed = pack_captions(tokens)
    layout = packed.layout
    assert sum(layout.counts) == len(packed.targets) == int((tokens[:, :, 1:] != 0).sum())
    assert layout.counts == sorted(layout.counts, reverse=True)
    assert torch.equal(tokens[:, :, 1:].flatten()[layout.places], packed.targets)
    assert torch.equal(tokens[:, :, :-1].flatten()[layout.places], packed.inputs)


@pytest.mark.parametrize("cell", [LSTMCell, GRUCell])
@pytest.mark.parametrize("gated", [True, False])
def test_gradient_by_finite_differences(tokens: Tensor, cell: Cell, gated: bool) -> None:
    torch.manual_seed(0)
    packed = pack_captions(tokens[:2, :3, :5])
    layout, m, h, a, n, g = packed.layout, len(packed.targets), 3, 2, 4, cell.gates
    r, q, c = len(layout.rows), a + gated * h, h * (cell.parts - 1)
    sizes = [(2, n, a), (2, n, h), (r, h), (r, c), (m, g * h), (q, h), (q,), (a,), (g * h, 2 * h)]
    inputs = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]
    assert torch.autograd.gradcheck(lambda *x: AttentionRNNUnroll.apply(layout, cell, *x), inputs)


def test_learns_to_repeat_what_it_sees() -> None:
    torch.manual_seed(0)
    still = replace(CONFIG, dropout=0.0, word_dropout=0.0, grid_dropout=0.0)
    check_learns_what_it_sees(RecurrentDecoder(still, V, C), lr=0.02, steps=80)
