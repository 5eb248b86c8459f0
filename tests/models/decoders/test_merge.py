"""The merge decoder: no look ahead, its two ways against each other, and prefixes read one by one."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from src.common.errors import UserError
from src.config.schema import DecoderConfig, GenerationConfig
from src.models.decoders import merge
from src.models.decoders.base import make_decoder
from src.models.decoders.merge import MergeDecoder
from src.models.generation import generate
from src.models.losses._cross_entropy import caption_cross_entropy
from tests.models.contract import (
    C,
    V,
    a_grid,
    check_missing_captions_change_nothing,
    check_stepwise_is_forward,
    some_tokens,
)

CONFIG = DecoderConfig(kind="merge", embedding=12, hidden=16)
KINDS = [
    {"cell": "lstm", "bidirectional": False},
    {"cell": "lstm", "bidirectional": True},
    {"cell": "gru", "bidirectional": True, "layers": 2},
]


@pytest.fixture
def grid() -> Tensor:
    return a_grid()


@pytest.fixture
def tokens() -> Tensor:
    """Three photos with four captions each: of all lengths, one missing, one of the style token alone."""
    return some_tokens([[9, 2, 5, 3], [0, 7, 9, 4], [1, 8, 6, 3]])


def make(kind: dict) -> MergeDecoder:
    torch.manual_seed(0)
    decoder = MergeDecoder(replace(CONFIG, **kind), V, C).eval()
    with torch.no_grad():
        decoder.words.weight.normal_()
    return decoder


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_word_changes_no_earlier_logit(grid: Tensor, tokens: Tensor, kind: dict) -> None:
    decoder = make(kind)
    whole = tokens[:, :1].clamp(min=4)
    before = decoder(grid, whole)
    for place in range(1, 8):
        other = whole.clone()
        other[:, :, place] = 4 + (whole[:, :, place] - 3) % (V - 4)
        after = decoder(grid, other)
        torch.testing.assert_close(after[:, :, :place], before[:, :, :place], atol=1e-6, rtol=0)
        assert (after[:, :, place] - before[:, :, place]).abs().amax(dim=2).min() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_stepwise_is_forward(grid: Tensor, tokens: Tensor, kind: dict) -> None:
    check_stepwise_is_forward(make(kind), grid, tokens, look=torch.full((12, 6), 1 / 6))


def test_backwards_is_torchs_bidirectional_lstm_over_each_prefix(grid: Tensor, tokens: Tensor) -> None:
    decoder = make(KINDS[1])
    both = torch.nn.LSTM(12, 16, bidirectional=True)
    ours = {"": decoder.forwards.layers, "_reverse": decoder.backwards.layers}  # type: ignore[union-attr]
    with torch.no_grad():
        for name, parameter in both.named_parameters():
            stack = ours["_reverse" if name.endswith("_reverse") else ""]
            parameter.copy_(getattr(stack, name.removesuffix("_reverse")))
    caption, photo = tokens[1, 2], decoder.image(grid[1].mean(dim=0))
    for length in range(1, 9):
        _, (hidden, _) = both(decoder.words(caption[:length]))
        merged = (decoder.summary(hidden.flatten()) + photo).tanh()
        expected = decoder.vocabulary(decoder.output(merged).tanh())
        found = decoder(grid, tokens)[1, 2, length - 1]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_slices_change_nothing(grid: Tensor, tokens: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, gradients = [], []
    for most in (merge.SLICE_VALUES, 16 * 20, 1):
        monkeypatch.setattr(merge, "SLICE_VALUES", most)
        decoder = make(KINDS[1])
        loss = decoder.loss(grid, tokens, 0.1)
        loss.backward()
        losses.append(loss)
        gradients.append(torch.cat([p.grad.flatten() for p in decoder.parameters() if p.grad is not None]))
    torch.testing.assert_close(losses[0], caption_cross_entropy(make(KINDS[1])(grid, tokens), tokens, 0.1))
    for loss, gradient in zip(losses[1:], gradients[1:], strict=True):
        torch.testing.assert_close(loss, losses[0])
        torch.testing.assert_close(gradient, gradients[0], atol=1e-6, rtol=1e-4)


def test_captions_that_are_missing_change_nothing(grid: Tensor, tokens: Tensor) -> None:
    check_missing_captions_change_nothing(make(KINDS[1]), grid, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_generates_with_a_beam(grid: Tensor, kind: dict) -> None:
    """A photo's caption does not depend on those beside it, whose states the beam reorders and drops."""
    decoder, config = make(kind), GenerationConfig(beam=3, max_length=6)
    style = torch.full((3,), 3)
    together = [caption.tokens for caption in generate(decoder, grid, style, config, [0, 1, 3])]
    alone = [generate(decoder, grid[i : i + 1], style[:1], config, [0, 1, 3])[0].tokens for i in range(3)]
    assert together == alone


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"kind": "recurrent", "bidirectional": True}, "bidirectional"),
        ({"kind": "recurrent", "attention": "none", "doubly_stochastic": 1.0}, "doubly_stochastic"),
        ({"kind": "merge", "doubly_stochastic": 1.0}, "doubly_stochastic"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict, key: str) -> None:
    with pytest.raises(UserError, match=rf"^model\.decoder\.{key}"):
        make_decoder(replace(CONFIG, **changes), V, C)
