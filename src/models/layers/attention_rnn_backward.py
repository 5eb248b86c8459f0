"""All positions of an attending LSTM or GRU at once, with a backward pass by hand.

Written out because autograd's own pass spends most of its time on what a recurrence repeats: a gradient of each weight
matrix at every position (here one product for all of them), and copies of the grid (here captions of a photo share it).
tests/model/test_recurrent.py compares it with a plain loop, and by finite differences.

Notation: B photos, R captions in work, longest first, N places of the grid, H units of the state, G gates (4 or 3),
A units of the attention, M positions of all captions, time by time, the captions that still go on at each.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from src.models.layers.packed_captions import PackedLayout
from src.models.layers.rnn_cells import Cell, RNNTape


class AttentionRNNUnroll(torch.autograd.Function):
    """Hidden states and what attention read, [M, H] each, and where it looked [M, N].

    Inputs, after the cell and all of one dtype: keys [B, N, A], values [B, N, H], first hidden [R, H] and cell ([R, H],
    or [R, 0] of a GRU), the words' part of the gates [M, G H], weight and bias of the query and, if it has one, of the
    reading gate ([A + H, H] and [A + H], or [A, H] and [A]), the attention's score vector [A], the recurrent weight
    [G H, 2 H].
    """

    @staticmethod
    def forward(ctx: Any, layout: PackedLayout, kind: Cell, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keeps the tape."""
        keys, values, hidden, cell, words, query, bias, score, recurrent = inputs
        (a, h), gated = (len(score), hidden.shape[1]), len(query) > len(score)
        tape, spread = RNNTape.like(keys, hidden, cell, len(words), gated), keys[layout.photo]
        out, exact = words.new_empty(len(words), h), torch.promote_types(keys.dtype, torch.float32)
        for start, end, n in layout.slices():
            at = slice(start, end)
            asked = torch.addmm(bias, hidden[:n], query.mT)
            seen = torch.add(spread[:n], asked[:, :a].unsqueeze(1), out=tape.seen[at]).tanh_()
            tape.weights[at] = weights = (seen @ score).softmax(dim=1, dtype=exact).to(seen.dtype)
            read = layout.read(weights, values)
            if gated:
                tape.raw[at], tape.open[at] = read, asked[:, a:].sigmoid_()
                read = read * tape.open[at]
            tape.into[at, :h], tape.into[at, h:] = hidden[:n], read
            hidden, cell = kind.ahead(tape, at, words[at], cell[:n], recurrent)
            out[at] = hidden
        ctx.layout, ctx.kind = layout, kind
        ctx.save_for_backward(values, query, score, recurrent, *vars(tape).values())
        return out, tape.into[:, h:].clone(), tape.weights.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all inputs."""
        values, query, score, recurrent, *saved = ctx.saved_tensors
        weights = (values, query, score, recurrent)
        return None, None, *_backward(ctx.layout, ctx.kind, RNNTape(*saved), weights, outputs)


def _backward(
    layout: PackedLayout, kind: Cell, tape: RNNTape, weights: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    values, query, score, recurrent = weights
    (a, h), count, turned = (len(score), values.shape[2]), len(layout.rows), values.mT.contiguous()
    gates, pull = torch.empty_like(tape.gates), torch.empty_like(tape.weights)  # pull: on the scores
    raw, asked = gates.new_empty(len(gates), h), gates.new_empty(len(gates), len(query))
    hidden, cell = gates.new_zeros(count, h), gates.new_zeros(count, tape.before.shape[1])
    square, squares = torch.empty_like(tape.seen[:count]), torch.zeros_like(tape.seen[:count])
    pulls = pull.new_zeros(count, pull.shape[1])
    for start, end, n in reversed(layout.slices()):
        at = slice(start, end)
        into, cell_n = kind.back(tape, at, outputs[0][at] + hidden[:n], cell[:n], recurrent, gates)
        raw[at] = _read_back(tape, at, outputs[1][at] + into[:, h:], asked[at, a:])
        wanted = layout.read(raw[at], turned) + outputs[2][at]
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
    words, recurrent_weight = kind.sums(tape, gates)
    scores, query_weight = pull.flatten() @ tape.seen.flatten(0, 1), asked.mT @ tape.into[:, :h]
    read_values = layout.gather(tape.weights, raw)
    return keys, read_values, hidden, cell, words, query_weight, asked.sum(dim=0), scores, recurrent_weight


def _read_back(tape: RNNTape, at: slice, read: Tensor, gate: Tensor) -> Tensor:
    """From the gradient of what was read to that ahead of its gate; the gate's own is written to `gate`, if any."""
    if not tape.open.shape[1]:
        return read
    torch.mul(read * tape.raw[at], tape.open[at] * (1 - tape.open[at]), out=gate)
    return read * tape.open[at]
