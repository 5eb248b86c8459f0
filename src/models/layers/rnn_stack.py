"""Torch's own LSTM or GRU layers over packed captions, with captions first in their states.
Held by tests/models/decoders/test_recurrent.py.

Notation: R captions in work, H units of the state, L layers, M positions of all captions.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


class RNNStack(nn.Module):
    """LSTM or GRU layers, each over the states of the one below, with dropout between them."""

    def __init__(self, cell: str, size: int, hidden: int, layers: int, dropout: float) -> None:
        """Layers over inputs of `size`; cell is lstm or gru."""
        super().__init__()
        kind = nn.GRU if cell == "gru" else nn.LSTM
        self.dropout = dropout if layers > 1 else 0.0
        self.layers = kind(size, hidden, layers, dropout=self.dropout)
        if cell == "lstm":
            with torch.no_grad():  # a forget gate that starts open (Jozefowicz et al. 2015)
                for layer in range(layers):
                    getattr(self.layers, f"bias_ih_l{layer}")[hidden : 2 * hidden] += 1

    def train(self, mode: bool = True) -> "RNNStack":
        """Switches dropout alone: in eval mode cuDNN gives no gradient, which self-critical training needs."""
        self.training = mode
        self.layers.dropout = self.dropout if mode else 0.0
        return self

    def zero_state(self, rows: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The states [R, L, H] of R captions before their first word, and cells: [R, L, H], or [R, L, 0] of a GRU."""
        hidden = like.new_zeros(rows, self.layers.num_layers, self.layers.hidden_size)
        return hidden, hidden if isinstance(self.layers, nn.LSTM) else hidden[:, :, :0]

    def forward(self, inputs: Tensor, counts: list[int], hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last layer's states [M, H] at all positions, and all layers' last states and cells as they came in.

        Args:
            inputs: [M, X], time by time, the captions that still go on at each.
            counts: how many those are, the longest captions first.
            hidden: [R, L, H].
            cell: [R, L, H], or [R, L, 0] of a GRU.
        """
        out, hidden, cell = self._run(PackedSequence(inputs, torch.tensor(counts)), inputs.dtype, hidden, cell)
        return out.data, hidden, cell

    def step(self, inputs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """All layers' states and cells after one input each [R, X]; states as forward's."""
        _, hidden, cell = self._run(inputs.unsqueeze(0), inputs.dtype, hidden, cell)
        return hidden, cell

    def _run(self, inputs: Any, kind: torch.dtype, hidden: Tensor, cell: Tensor) -> tuple[Any, Tensor, Tensor]:
        before = [state.to(kind).transpose(0, 1).contiguous() for state in (hidden, cell)]
        if isinstance(self.layers, nn.LSTM):
            out, (after, cell) = self.layers(inputs, (before[0], before[1]))
            return out, after.transpose(0, 1), cell.transpose(0, 1)
        out, after = self.layers(inputs, before[0])
        return out, after.transpose(0, 1), cell
