"""A recurrent layer that attends to the image's grid before each word. Held by tests/models/decoders/test_recurrent.py.

Bahdanau et al. 2015 (additive attention); Xu et al. 2015, "Show, Attend and Tell" (over an image, with a gate on the
context vector). `step` is the plain formula for one word; `unroll` computes all words of a batch in training, with the
backward pass of attention_rnn_backward.

Notation: B images, N places of the grid, C channels, R captions in work, P images that they belong to, H units of the
state, A units of the attention, E size of word vectors, M positions of all captions.
"""

import torch
from torch import Tensor, nn

from src.config.schema import DecoderConfig
from src.models.layers.attention_rnn_backward import AttentionRNNUnroll
from src.models.layers.packed_captions import PackedLayout
from src.models.layers.rnn_cells import make_cell


class AttentionRNN(nn.Module):
    """LSTM or GRU with additive attention, with or without a gate on the context vector."""

    def __init__(self, config: DecoderConfig, channels: int) -> None:
        """A layer for grids of `channels`."""
        super().__init__()
        a, e, h = config.attention_size, config.embedding, config.hidden
        self.kind, self.sizes, self.gated = make_cell(config.cell), (a, h), config.attention == "gated"
        self.memory = nn.Linear(channels, a + h)
        self.query = nn.Linear(h, a + h if self.gated else a)
        self.score = nn.Parameter(torch.empty(a).uniform_(-(a**-0.5), a**-0.5))
        self.input = nn.Linear(e, self.kind.gates * h)
        self.recurrent = nn.Linear(2 * h, self.kind.gates * h, bias=False)
        if config.cell == "lstm":
            with torch.no_grad():  # a forget gate that starts open (Jozefowicz et al. 2015)
                self.input.bias[h : 2 * h] += 1

    def keys_and_values(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Keys [B, N, A], to which attention compares, and values [B, N, H], which it reads, of a grid [B, N, C]."""
        keys, values = self.memory(grid).split(self.sizes, dim=2)
        return keys.contiguous(), values.contiguous()

    def step(
        self, words: Tensor, hidden: Tensor, cell: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The next hidden and cell, the context vector [R, H], and attention [R, N].

        Args:
            words: [R, E].
            hidden: [R, H].
            cell: [R, H], or [R, 0] of a GRU.
            keys: [P, N, A], each for R / P captions in turn.
            values: [P, N, H], likewise.
        """
        query = self.query(hidden)
        queries = query[:, : self.sizes[0]].view(keys.shape[0], -1, 1, self.sizes[0])
        weights = ((keys.unsqueeze(1) + queries).tanh() @ self.score.to(keys.dtype)).softmax(dim=2)
        context = (weights.to(values.dtype) @ values).flatten(0, 1)
        if self.gated:
            context = query[:, self.sizes[0] :].sigmoid() * context
        inputs = torch.cat([hidden, context], dim=1)
        hidden, cell = self.kind.step(self.input(words), inputs, cell, self.recurrent.weight)
        return hidden, cell, context, weights.flatten(0, 1)

    def unroll(
        self, layout: PackedLayout, words: Tensor, hidden: Tensor, cell: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states and context vectors, [M, H] each, and attention [M, N], at all positions.

        Args:
            layout: where the captions stand.
            words: [M, E].
            hidden: [R, H], each caption's first.
            cell: [R, H] or [R, 0], likewise.
            keys: [B, N, A].
            values: [B, N, H].
        """
        inputs = (
            *(keys, values, hidden, cell, self.input(words)),
            *(self.query.weight, self.query.bias, self.score, self.recurrent.weight),
        )
        return AttentionRNNUnroll.apply(layout, self.kind, *(value.to(keys.dtype) for value in inputs))
