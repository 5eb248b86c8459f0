"""AttentionRNN over all positions at once, with a backward pass by hand.

It is written out because autograd's own pass spends most of its time on repetitions: a gradient of each weight matrix
at every position (here one product for all of them), and copies of the grid (here an image's captions share it).
Held by tests/models/decoders/test_recurrent.py: a plain loop and finite differences.

Notation: B images, R captions in work, longest first, N places of the grid, H units of the state, G gates (4 or 3),
A units of the attention, M positions of all captions, time by time, the captions that still go on at each.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from src.models.layers.packed_captions import PackedLayout
from src.models.layers.rnn_cells import Cell, RNNTape


class AttentionRNNUnroll(torch.autograd.Function):
    """Hidden states and context vectors, [M, H] each, and attention [M, N].

    Inputs, after the cell and all of one dtype: keys [B, N, A], values [B, N, H], first hidden [R, H] and cell ([R, H],
    or [R, 0] of a GRU), the words' part of the gates [M, G H], weight and bias of the query and, if it has one, of the
    context's gate ([A + H, H] and [A + H], or [A, H] and [A]), the attention's score vector [A], the recurrent weight
    [G H, 2 H].
    """

    @staticmethod
    def forward(ctx: Any, layout: PackedLayout, kind: Cell, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fills the tape."""
        keys, values, hidden, cell, words, query, bias, score, recurrent = inputs
        (a, h), gated = (len(score), hidden.shape[1]), len(query) > len(score)
        tape, spread = RNNTape.empty(keys, hidden, cell, len(words), gated), keys[layout.image]
        out, exact = words.new_empty(len(words), h), torch.promote_types(keys.dtype, torch.float32)
        for start, end, n in layout.time_slices():
            at = slice(start, end)
            queries = torch.addmm(bias, hidden[:n], query.mT)
            alignment = torch.add(spread[:n], queries[:, :a].unsqueeze(1), out=tape.alignment[at]).tanh_()
            tape.weights[at] = weights = (alignment @ score).softmax(dim=1, dtype=exact).to(alignment.dtype)
            context = layout.read_grid(weights, values)
            if gated:
                tape.context[at], tape.gate[at] = context, queries[:, a:].sigmoid_()
                context = context * tape.gate[at]
            tape.inputs[at, :h], tape.inputs[at, h:] = hidden[:n], context
            hidden, cell = kind.forward_step(tape, at, words[at], cell[:n], recurrent)
            out[at] = hidden
        ctx.layout, ctx.kind = layout, kind
        ctx.save_for_backward(values, query, score, recurrent, *vars(tape).values())
        return out, tape.inputs[:, h:].clone(), tape.weights.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all inputs."""
        values, query, score, recurrent, *tape = ctx.saved_tensors
        weights = (values, query, score, recurrent)
        return None, None, *_backward(ctx.layout, ctx.kind, RNNTape(*tape), weights, outputs)


def _backward(
    layout: PackedLayout, kind: Cell, tape: RNNTape, weights: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Gradients of the inputs, from those of the three outputs."""
    values, query, score, recurrent = weights
    (a, h), count, turned = (len(score), values.shape[2]), len(layout.rows), values.mT.contiguous()
    gates, scores = torch.empty_like(tape.gates), torch.empty_like(tape.weights)
    context, queries = gates.new_empty(len(gates), h), gates.new_empty(len(gates), len(query))
    hidden, cell = gates.new_zeros(count, h), gates.new_zeros(count, tape.previous_cell.shape[1])
    square, squares = torch.empty_like(tape.alignment[:count]), torch.zeros_like(tape.alignment[:count])
    score_sums = scores.new_zeros(count, scores.shape[1])
    for start, end, n in reversed(layout.time_slices()):
        at = slice(start, end)
        inputs, cell_n = kind.backward_step(tape, at, outputs[0][at] + hidden[:n], cell[:n], recurrent, gates)
        context[at] = _gate_backward(tape, at, outputs[1][at] + inputs[:, h:], queries[at, a:])
        attention = layout.read_grid(context[at], turned) + outputs[2][at]
        scores[at] = tape.weights[at] * (attention - (attention * tape.weights[at]).sum(dim=1, keepdim=True))
        # The derivative of tanh is 1 - alignment^2; to sum its two parts apart spares passes over [n, N, A].
        torch.mul(tape.alignment[at], tape.alignment[at], out=square[:n])
        fall = torch.bmm(scores[at].unsqueeze(1), square[:n]).squeeze(1)
        queries[at, :a] = score * (scores[at].sum(dim=1, keepdim=True) - fall)
        squares[:n].addcmul_(square[:n], scores[at].unsqueeze(2))
        score_sums[:n] += scores[at]
        torch.addmm(inputs[:, :h], queries[at], query, out=hidden[:n])
        cell[:n] = cell_n
    keys = values.new_zeros(layout.images, values.shape[1], a)
    keys.index_add_(0, layout.image, score * (score_sums.unsqueeze(2) - squares))
    words, recurrent_weight = kind.weight_gradients(tape, gates)
    score_weight, query_weight = scores.flatten() @ tape.alignment.flatten(0, 1), queries.mT @ tape.inputs[:, :h]
    grid_values = layout.sum_by_image(tape.weights, context)
    return keys, grid_values, hidden, cell, words, query_weight, queries.sum(dim=0), score_weight, recurrent_weight


def _gate_backward(tape: RNNTape, at: slice, context: Tensor, gate: Tensor) -> Tensor:
    """The gradient before the gate, from that of the gated context; the gate's own goes to `gate`, if there is one."""
    if not tape.gate.shape[1]:
        return context
    torch.mul(context * tape.context[at], tape.gate[at] * (1 - tape.gate[at]), out=gate)
    return context * tape.gate[at]
