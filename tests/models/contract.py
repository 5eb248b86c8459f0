"""What every caption decoder is held to, whatever it is made of: its `loss`, `forward`, `start` and `step`."""

from typing import Any

import torch
from torch import Tensor

V, C = 23, 10  # tokens, channels of the grid


def a_grid() -> Tensor:
    """[3, 6, C]."""
    return torch.randn(3, 6, C, generator=torch.Generator().manual_seed(1))


def some_tokens(lengths: list[list[int]]) -> Tensor:
    """[photos, captions, 9] tokens, each caption of its length, padded with 0."""
    some = torch.tensor(lengths)
    tokens = torch.randint(4, V, (*some.shape, 9), generator=torch.Generator().manual_seed(2))
    tokens[torch.arange(9) >= some.unsqueeze(2)] = 0
    return tokens


def check_stepwise_is_forward(decoder: Any, grid: Tensor, tokens: Tensor, look: Tensor | None = None) -> None:
    """Step by step, the logits of teacher forcing, and a look whose sum is 1: the one given, if any."""
    logits, full = decoder(grid, tokens), tokens[:, :, 1:] != 0
    rows = len(full) * full.shape[1]
    state = decoder.start(grid).select(torch.arange(len(full)).repeat_interleave(full.shape[1]))
    for step in range(tokens.shape[2] - 1):
        ahead, state, attention = decoder.step(state, tokens[:, :, step].flatten())
        kept = full[:, :, step].flatten()
        torch.testing.assert_close(ahead[kept], logits[:, :, step].flatten(0, 1)[kept], atol=1e-5, rtol=1e-5)
        assert attention.shape == (rows, grid.shape[1])
        torch.testing.assert_close(attention.sum(dim=1), torch.ones(rows))
        if look is not None:
            torch.testing.assert_close(attention, look)


def check_missing_captions_change_nothing(decoder: Any, grid: Tensor, tokens: Tensor) -> None:
    """More padding costs nothing, and padding alone is a loss of 0 that backward() takes."""
    more = torch.cat([tokens, torch.zeros_like(tokens[:, :2])], dim=1)
    more = torch.cat([more, torch.zeros_like(more[:, :, :3])], dim=2)
    torch.testing.assert_close(decoder.loss(grid, more), decoder.loss(grid, tokens))
    none = decoder.loss(grid, torch.zeros_like(tokens))
    none.backward()
    assert none == 0


def check_bf16_gradients(exact: Any, rough: Any, grid: Tensor, tokens: Tensor) -> None:
    """Of two equal decoders, the gradients of mixed precision point where those of fp32 do."""
    exact.loss(grid, tokens, 0.1).backward()
    with torch.autocast("cpu", torch.bfloat16):
        loss = rough.loss(grid.half(), tokens, 0.1)
    loss.backward()
    for (name, a), b in zip(exact.named_parameters(), rough.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.cosine_similarity(a.grad.flatten(), b.grad.flatten(), dim=0) > 0.99, name


def check_learns_what_it_sees(decoder: Any, lr: float, steps: int) -> None:
    """Four photos, each of one colour, named by one word."""
    grid = torch.eye(C)[:4].unsqueeze(1).expand(4, 6, C)
    tokens = torch.tensor([[3, 4 + i, 10 + i, 2] for i in range(4)]).unsqueeze(1)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = decoder.loss(grid, tokens)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert torch.equal(decoder.eval()(grid, tokens).argmax(dim=3), tokens[:, :, 1:])
