"""One step of an LSTM (Hochreiter and Schmidhuber 1997) or a GRU (Cho et al. 2014) of words and a context vector.
Held by tests/models/decoders/test_recurrent.py.

Each has two forms: `step` is the plain formula, for autograd; `forward_step` and `backward_step` write and read a tape,
for AttentionRNNUnroll.

Notation: R captions in work, n of them that still go on, H units of the state, G gates, N places of the grid,
A units of the attention, M positions of all captions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class RNNTape:
    """Values that the backward pass needs, of all positions; the forward pass fills them time by time."""

    alignment: Tensor  # [M, N, A], tanh of keys and query
    weights: Tensor  # [M, N], attention
    context: Tensor  # [M, H], the weighted sum of values, before its gate; [M, 0] without a gate
    gate: Tensor  # [M, H], that gate, or [M, 0]
    inputs: Tensor  # [M, 2 H], the previous state and the gated context
    gates: Tensor  # [M, 4 H], after their nonlinearities: see the cells
    previous_cell: Tensor  # [M, H], of the LSTM; [M, 0] of a GRU
    tanh_cell: Tensor  # [M, H], tanh of the LSTM's new cell; [M, 0] of a GRU

    @staticmethod
    def empty(keys: Tensor, hidden: Tensor, cell: Tensor, m: int, gated: bool) -> "RNNTape":
        """An empty tape of m positions: keys [B, N, A], hidden [R, H], cell [R, H] or [R, 0]."""
        (_, n, a), h, c = keys.shape, hidden.shape[1], cell.shape[1]
        g = h if gated else 0
        sizes = [(m, n, a), (m, n), (m, g), (m, g), (m, 2 * h), (m, 4 * h), (m, c), (m, c)]
        return RNNTape(*(keys.new_empty(size) for size in sizes))


class LSTMCell:
    """Gates, in torch's order: input, forget, new, output. It carries hidden and cell, [R, H] each."""

    gates = 4
    parts = 2

    @staticmethod
    def step(words: Tensor, inputs: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden and cell, from the words' part of the gates [R, 4 H], [R, 2 H], [R, H] and [4 H, 2 H]."""
        i, f, g, o = (words + F.linear(inputs, weight)).chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell

    @staticmethod
    def forward_step(tape: RNNTape, at: slice, words: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """As step, from tape.inputs[at]; writes the tape there."""
        h = cell.shape[1]
        gates = torch.addmm(words, tape.inputs[at], weight.mT, out=tape.gates[at])
        gates[:, : 2 * h].sigmoid_()
        gates[:, 2 * h : 3 * h].tanh_()
        gates[:, 3 * h :].sigmoid_()
        i, f, g, o = gates.chunk(4, dim=1)
        tape.previous_cell[at] = cell
        cell = f * cell + i * g
        return o * torch.tanh(cell, out=tape.tanh_cell[at]), cell

    @staticmethod
    def backward_step(
        tape: RNNTape, at: slice, hidden: Tensor, cell: Tensor, weight: Tensor, gates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """From gradients of hidden and cell to those of the inputs and the previous cell; writes gates[at]."""
        i, f, g, o = tape.gates[at].chunk(4, dim=1)
        bent, before = tape.tanh_cell[at], tape.previous_cell[at]
        cell = cell + hidden * o * (1 - bent * bent)
        torch.cat(
            [cell * g * i * (1 - i), cell * before * f * (1 - f), cell * i * (1 - g * g), hidden * bent * o * (1 - o)],
            dim=1,
            out=gates[at],
        )
        return gates[at] @ weight, cell * f

    @staticmethod
    def weight_gradients(tape: RNNTape, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the words' part [M, 4 H] and of the weight [4 H, 2 H], from those of all positions' gates."""
        return gates, gates.mT @ tape.inputs


class GRUCell:
    """Gates, in torch's order: reset, update, new; on the tape the state's part of `new` comes fourth.

    It carries hidden [R, H] alone: its cell is [R, 0]. Torch's second bias, on that part, is left out.
    """

    gates = 3
    parts = 1

    @staticmethod
    def step(words: Tensor, inputs: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden, from the words' part of the gates [R, 3 H], [R, 2 H] and weight [3 H, 2 H]."""
        h = inputs.shape[1] // 2
        before, context = inputs.chunk(2, dim=1)
        r, z = (words[:, : 2 * h] + F.linear(inputs, weight[: 2 * h])).sigmoid().chunk(2, dim=1)
        state, read = F.linear(before, weight[2 * h :, :h]), F.linear(context, weight[2 * h :, h:])
        new = (words[:, 2 * h :] + read + r * state).tanh()
        return new + z * (before - new), cell

    @staticmethod
    def forward_step(tape: RNNTape, at: slice, words: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """As step, from tape.inputs[at]; writes the tape there."""
        inputs, gates = tape.inputs[at], tape.gates[at]
        h = inputs.shape[1] // 2
        gates[:, : 2 * h] = torch.addmm(words[:, : 2 * h], inputs, weight[: 2 * h].mT).sigmoid_()
        gates[:, 3 * h :] = inputs[:, :h] @ weight[2 * h :, :h].mT
        r, z, new, state = gates.chunk(4, dim=1)
        read = torch.addmm(words[:, 2 * h :], inputs[:, h:], weight[2 * h :, h:].mT)
        new.copy_(read.addcmul_(r, state).tanh_())
        return new + z * (inputs[:, :h] - new), cell

    @staticmethod
    def backward_step(
        tape: RNNTape, at: slice, hidden: Tensor, cell: Tensor, weight: Tensor, gates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """From the gradient of hidden to that of the inputs; writes gates[at]."""
        h = hidden.shape[1]
        before = tape.inputs[at, :h]
        r, z, new, state = tape.gates[at].chunk(4, dim=1)
        bend = hidden * (1 - z) * (1 - new * new)
        reset, update = bend * state * r * (1 - r), hidden * (before - new) * z * (1 - z)
        torch.cat([reset, update, bend, bend * r], dim=1, out=gates[at])
        inputs = gates[at, : 2 * h] @ weight[: 2 * h]
        inputs[:, :h] += hidden * z + gates[at, 3 * h :] @ weight[2 * h :, :h]
        inputs[:, h:] += bend @ weight[2 * h :, h:]
        return inputs, cell

    @staticmethod
    def weight_gradients(tape: RNNTape, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the words' part [M, 3 H] and of the weight [3 H, 2 H], from those of all positions' gates."""
        h = gates.shape[1] // 4
        before, context = tape.inputs.chunk(2, dim=1)
        new = torch.cat([gates[:, 3 * h :].mT @ before, gates[:, 2 * h : 3 * h].mT @ context], dim=1)
        return gates[:, : 3 * h], torch.cat([gates[:, : 2 * h].mT @ tape.inputs, new])


Cell = type[LSTMCell] | type[GRUCell]


def make_cell(name: str) -> Cell:
    """The cell of DecoderConfig.cell: lstm or gru."""
    return GRUCell if name == "gru" else LSTMCell
