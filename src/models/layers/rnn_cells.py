"""One step of an LSTM (Hochreiter and Schmidhuber 1997) or a GRU (Cho et al. 2014) that reads words and a grid.

Each in two forms: `step`, as the formula stands, for autograd; `ahead` and `back`, which share a tape, for Unroll.

Notation: R captions in work, n of them that still go on, H units of the state, G gates, N places of the grid,
A units of the attention, M positions of all captions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class RNNTape:
    """What the backward pass needs, of all positions; filled time by time."""

    seen: Tensor  # [M, N, A], tanh of keys and query
    weights: Tensor  # [M, N], attention
    raw: Tensor  # [M, H], what it read, ahead of its gate; [M, 0] without the gate
    open: Tensor  # [M, H], that gate, or [M, 0]
    into: Tensor  # [M, 2 H], the state before and what was read
    gates: Tensor  # [M, 4 H], after their nonlinearities: see the cells
    before: Tensor  # [M, H], the LSTM's cell before; [M, 0] of a GRU
    bent: Tensor  # [M, H], tanh of that cell after; [M, 0] of a GRU

    @staticmethod
    def like(keys: Tensor, hidden: Tensor, cell: Tensor, m: int, gated: bool) -> "RNNTape":
        """An empty one of m positions: keys [B, N, A], hidden [R, H], cell [R, H] or [R, 0]."""
        (_, n, a), h, c = keys.shape, hidden.shape[1], cell.shape[1]
        g = h if gated else 0
        sizes = [(m, n, a), (m, n), (m, g), (m, g), (m, 2 * h), (m, 4 * h), (m, c), (m, c)]
        return RNNTape(*(keys.new_empty(size) for size in sizes))


class LSTMCell:
    """Gates, in torch's order: input, forget, new, output. It carries hidden and cell, [R, H] each."""

    gates = 4
    parts = 2

    @staticmethod
    def step(words: Tensor, into: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden and cell, from the words' part of the gates [R, 4 H], [R, 2 H], [R, H] and [4 H, 2 H]."""
        i, f, g, o = (words + F.linear(into, weight)).chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell

    @staticmethod
    def ahead(tape: RNNTape, at: slice, words: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """As step, from tape.into at `at`; writes the tape there."""
        h = cell.shape[1]
        gates = torch.addmm(words, tape.into[at], weight.mT, out=tape.gates[at])
        gates[:, : 2 * h].sigmoid_()
        gates[:, 2 * h : 3 * h].tanh_()
        gates[:, 3 * h :].sigmoid_()
        i, f, g, o = gates.chunk(4, dim=1)
        tape.before[at] = cell
        cell = f * cell + i * g
        return o * torch.tanh(cell, out=tape.bent[at]), cell

    @staticmethod
    def back(
        tape: RNNTape, at: slice, hidden: Tensor, cell: Tensor, weight: Tensor, gates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """From gradients of hidden and cell to those of `into` and of the cell before; the gates' go to gates[at]."""
        i, f, g, o = tape.gates[at].chunk(4, dim=1)
        bent, before = tape.bent[at], tape.before[at]
        cell = cell + hidden * o * (1 - bent * bent)
        torch.cat(
            [cell * g * i * (1 - i), cell * before * f * (1 - f), cell * i * (1 - g * g), hidden * bent * o * (1 - o)],
            dim=1,
            out=gates[at],
        )
        return gates[at] @ weight, cell * f

    @staticmethod
    def sums(tape: RNNTape, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the words' part [M, 4 H] and of the weight [4 H, 2 H], from those of all positions' gates."""
        return gates, gates.mT @ tape.into


class GRUCell:
    """Gates, in torch's order: reset, update, new; on the tape the state's part of `new` comes fourth.

    It carries hidden [R, H] alone: its cell is [R, 0]. Torch's second bias, on that part, is left out.
    """

    gates = 3
    parts = 1

    @staticmethod
    def step(words: Tensor, into: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden, from the words' part of the gates [R, 3 H], [R, 2 H] and weight [3 H, 2 H]."""
        h = into.shape[1] // 2
        before, read = into.chunk(2, dim=1)
        r, z = (words[:, : 2 * h] + F.linear(into, weight[: 2 * h])).sigmoid().chunk(2, dim=1)
        own, seen = F.linear(before, weight[2 * h :, :h]), F.linear(read, weight[2 * h :, h:])
        new = (words[:, 2 * h :] + seen + r * own).tanh()
        return new + z * (before - new), cell

    @staticmethod
    def ahead(tape: RNNTape, at: slice, words: Tensor, cell: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """As step, from tape.into at `at`; writes the tape there."""
        into, gates = tape.into[at], tape.gates[at]
        h = into.shape[1] // 2
        gates[:, : 2 * h] = torch.addmm(words[:, : 2 * h], into, weight[: 2 * h].mT).sigmoid_()
        gates[:, 3 * h :] = into[:, :h] @ weight[2 * h :, :h].mT
        r, z, new, own = gates.chunk(4, dim=1)
        seen = torch.addmm(words[:, 2 * h :], into[:, h:], weight[2 * h :, h:].mT)
        new.copy_(seen.addcmul_(r, own).tanh_())
        return new + z * (into[:, :h] - new), cell

    @staticmethod
    def back(
        tape: RNNTape, at: slice, hidden: Tensor, cell: Tensor, weight: Tensor, gates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """From the gradient of hidden to that of `into`; the gates' go to gates[at]."""
        h = hidden.shape[1]
        before = tape.into[at, :h]
        r, z, new, own = tape.gates[at].chunk(4, dim=1)
        bend = hidden * (1 - z) * (1 - new * new)
        reset, update = bend * own * r * (1 - r), hidden * (before - new) * z * (1 - z)
        torch.cat([reset, update, bend, bend * r], dim=1, out=gates[at])
        into = gates[at, : 2 * h] @ weight[: 2 * h]
        into[:, :h] += hidden * z + gates[at, 3 * h :] @ weight[2 * h :, :h]
        into[:, h:] += bend @ weight[2 * h :, h:]
        return into, cell

    @staticmethod
    def sums(tape: RNNTape, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the words' part [M, 3 H] and of the weight [3 H, 2 H], from those of all positions' gates."""
        h = gates.shape[1] // 4
        before, read = tape.into.chunk(2, dim=1)
        new = torch.cat([gates[:, 3 * h :].mT @ before, gates[:, 2 * h : 3 * h].mT @ read], dim=1)
        return gates[:, : 3 * h], torch.cat([gates[:, : 2 * h].mT @ tape.into, new])


Cell = type[LSTMCell] | type[GRUCell]


def make_cell(name: str) -> Cell:
    """The cell of DecoderConfig.cell: lstm or gru."""
    return GRUCell if name == "gru" else LSTMCell
