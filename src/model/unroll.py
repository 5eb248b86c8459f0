"""All positions of an attending LSTM at once, with a backward pass by hand.

Written out because autograd's own pass spends most of its time on what a recurrence repeats: a gradient of each weight
matrix at every position (here one product for all of them), and copies of the grid (here captions of a photo share it).
tests/model/test_recurrent.py compares it with a plain loop, and by finite differences.

Notation: B photos, K captions a photo, R captions in work, longest first, N places of the grid, H units of the state,
A units of the attention, M positions of all captions, time by time, the captions that still go on at each.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass
class Layout:
    """Where captions stand.

    Attributes:
        photos: B.
        rows: [R] int64, each caption's place among all B K, photo by photo.
        counts: at each time, how many captions still go on.
        places: [M] int64, where each position stands in [B K, times], flattened.
        each: K.
    """

    photos: int
    rows: Tensor
    counts: list[int]
    places: Tensor
    each: int

    @property
    def photo(self) -> Tensor:
        """[R] int64, each caption's photo."""
        return self.rows // self.each

    def slices(self) -> list[tuple[int, int, int]]:
        """(first position, behind the last one, captions) of each time."""
        ends = torch.tensor(self.counts).cumsum(0).tolist()
        return [(end - n, end, n) for end, n in zip(ends, self.counts, strict=True)]

    def read(self, weights: Tensor, grid: Tensor) -> Tensor:
        """[n, X] weights by [B, X, Y] of each caption's photo, to [n, Y], without a copy of the grid a caption."""
        rows = self.rows[: len(weights)]
        full = weights.new_zeros(self.photos * self.each, weights.shape[1]).index_copy_(0, rows, weights)
        return (full.view(self.photos, self.each, -1) @ grid).flatten(0, 1)[rows]

    def gather(self, weights: Tensor, values: Tensor) -> Tensor:
        """The sum over a photo's positions of weights [M, X] times values [M, Y], to [B, X, Y]."""
        size = self.photos * self.each * len(self.counts)
        left = weights.new_zeros(size, weights.shape[1]).index_copy_(0, self.places, weights)
        right = values.new_zeros(size, values.shape[1]).index_copy_(0, self.places, values)
        return left.view(self.photos, -1, weights.shape[1]).mT @ right.view(self.photos, -1, values.shape[1])


@dataclass
class Tape:
    """What the backward pass needs, of all positions; filled time by time."""

    seen: Tensor  # [M, N, A], tanh of keys and query
    weights: Tensor  # [M, N], attention
    raw: Tensor  # [M, H], what it read, ahead of its gate
    open: Tensor  # [M, H], that gate
    into: Tensor  # [M, 2 H], the state before and what was read
    gates: Tensor  # [M, 4 H], after their nonlinearities: input, forget, new, output
    before: Tensor  # [M, H], the cell before
    cell: Tensor  # [M, H], tanh of the cell after

    @staticmethod
    def like(keys: Tensor, gates: Tensor) -> "Tape":
        """An empty one: keys [B, N, A], gates [M, 4 H]."""
        m, h, (_, n, a) = len(gates), gates.shape[1] // 4, keys.shape
        sizes = [(m, n, a), (m, n), (m, h), (m, h), (m, 2 * h), (m, 4 * h), (m, h), (m, h)]
        return Tape(*(gates.new_empty(size) for size in sizes))


class Unroll(torch.autograd.Function):
    """Hidden states and what attention read, [M, H] each.

    Inputs, all of one dtype: keys [B, N, A], values [B, N, H], first hidden and cell [R, H], the words' part of the
    gates [M, 4 H], weight and bias of the query and the reading gate [A + H, H], [A + H], the attention's score
    vector [A], the recurrent weight [4 H, 2 H].
    """

    @staticmethod
    def forward(ctx: Any, layout: Layout, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps the tape."""
        keys, values, hidden, cell, words, query, bias, score, recurrent = inputs
        tape, (a, h) = Tape.like(keys, words), (len(score), hidden.shape[1])
        spread, out = keys[layout.photo], torch.empty_like(tape.raw)
        exact = torch.promote_types(keys.dtype, torch.float32)
        for start, end, n in layout.slices():
            asked, open_ = torch.addmm(bias, hidden[:n], query.mT).split((a, h), dim=1)
            seen = torch.add(spread[:n], asked.unsqueeze(1), out=tape.seen[start:end]).tanh_()
            weights = (seen @ score).softmax(dim=1, dtype=exact).to(seen.dtype)
            raw, open_ = layout.read(weights, values), open_.sigmoid()
            into = torch.cat([hidden[:n], raw * open_], dim=1)
            gates = torch.addmm(words[start:end], into, recurrent.mT)
            gates[:, : 2 * h].sigmoid_()
            gates[:, 2 * h : 3 * h].tanh_()
            gates[:, 3 * h :].sigmoid_()
            tape.before[start:end] = cell[:n]
            cell = gates[:, h : 2 * h] * cell[:n] + gates[:, :h] * gates[:, 2 * h : 3 * h]
            bent = cell.tanh()
            hidden = torch.mul(gates[:, 3 * h :], bent, out=out[start:end])
            tape.weights[start:end], tape.raw[start:end], tape.open[start:end] = weights, raw, open_
            tape.into[start:end], tape.gates[start:end], tape.cell[start:end] = into, gates, bent
        ctx.layout = layout
        ctx.save_for_backward(values, query, score, recurrent, *vars(tape).values())
        return out, tape.into[:, h:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all inputs."""
        values, query, score, recurrent, *saved = ctx.saved_tensors
        return None, *_backward(ctx.layout, Tape(*saved), (values, query, score, recurrent), outputs)


def _backward(
    layout: Layout, tape: Tape, weights: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    values, query, score, recurrent = weights
    (a, h), count, turned = (len(score), values.shape[2]), len(layout.rows), values.mT.contiguous()
    gates, raw, pull = (torch.empty_like(x) for x in (tape.gates, tape.raw, tape.weights))  # pull: on the scores
    asked = raw.new_empty(len(raw), a + h)
    hidden, cell = tape.raw.new_zeros(count, h), tape.raw.new_zeros(count, h)
    square, squares = torch.empty_like(tape.seen[:count]), torch.zeros_like(tape.seen[:count])
    pulls = pull.new_zeros(count, pull.shape[1])
    for start, end, n in reversed(layout.slices()):
        at = slice(start, end)
        cell_n = _gates(tape, at, outputs[0][at] + hidden[:n], cell[:n], gates[at])
        into = gates[at] @ recurrent
        read = outputs[1][at] + into[:, h:]
        torch.mul(read, tape.open[at], out=raw[at])
        asked[at, a:] = read * tape.raw[at] * tape.open[at] * (1 - tape.open[at])
        wanted = layout.read(raw[at], turned)
        pull[at] = tape.weights[at] * (wanted - (wanted * tape.weights[at]).sum(dim=1, keepdim=True))
        # The derivative of tanh is 1 - seen^2, and summing its two parts apart spares passes over [n, N, A].
        torch.mul(tape.seen[at], tape.seen[at], out=square[:n])
        fall = torch.bmm(pull[at].unsqueeze(1), square[:n]).squeeze(1)
        asked[at, :a] = score * (pull[at].sum(dim=1, keepdim=True) - fall)
        squares[:n].addcmul_(square[:n], pull[at].unsqueeze(2))
        pulls[:n] += pull[at]
        torch.addmm(into[:, :h], asked[at], query, out=hidden[:n])
        cell[:n] = cell_n
    keys = values.new_zeros(layout.photos, values.shape[1], a)
    keys.index_add_(0, layout.photo, score * (pulls.unsqueeze(2) - squares))
    scores = pull.flatten() @ tape.seen.flatten(0, 1)
    query_weight, recurrent_weight = asked.mT @ tape.into[:, :h], gates.mT @ tape.into
    read_values = layout.gather(tape.weights, raw)
    return keys, read_values, hidden, cell, gates, query_weight, asked.sum(dim=0), scores, recurrent_weight


def _gates(tape: Tape, at: slice, hidden: Tensor, cell: Tensor, into: Tensor) -> Tensor:
    """From gradients of hidden and cell to those of the gates, written to `into`, and of the cell before."""
    i, f, g, o = tape.gates[at].chunk(4, dim=1)
    bent, before = tape.cell[at], tape.before[at]
    cell = cell + hidden * o * (1 - bent * bent)
    torch.cat(
        [cell * g * i * (1 - i), cell * before * f * (1 - f), cell * i * (1 - g * g), hidden * bent * o * (1 - o)],
        dim=1,
        out=into,
    )
    return cell * f
