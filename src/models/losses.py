"""Losses: cross-entropy of captions, and four of mos. Missing labels are left out ahead of them, or by them.

Each is a mean, so that its size does not depend on the batch's; each is finite for a batch of one and for constants.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

PAD = 0
EPSILON = 1e-6
AT_ONCE = 2**21  # logits of a slice: 8 MB


def caption_cross_entropy(logits: Tensor, tokens: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy per word, shifted by one: the logits at position t are for token t + 1. Padding is left out.

    Args:
        logits: [..., T - 1, V], as a decoder gives them for `tokens`.
        tokens: [..., T], style token first, end token last, then padding.
        smoothing: of labels (Szegedy et al. 2016): this much of the probability is spread evenly over all V.

    Returns:
        A scalar in nats; 0 where all is padding.
    """
    target = tokens[..., 1:].reshape(-1)
    kept = (target != PAD).nonzero().squeeze(1)
    return word_cross_entropy(logits.reshape(-1, logits.shape[-1])[kept], target[kept], smoothing)


def word_cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of [M, V] logits with [M] tokens, none of which is padding; 0 where M is 0."""
    if len(target) == 0:
        return logits.sum() * 0.0
    logits = logits.float()
    normaliser = logits.logsumexp(dim=1)
    likely = normaliser - logits.gather(1, target.unsqueeze(1)).squeeze(1)
    if smoothing == 0.0:
        return likely.mean()
    even = normaliser - logits.mean(dim=1)
    return ((1 - smoothing) * likely + smoothing * even).mean()


def linear_cross_entropy(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    smoothing: float = 0.0,
    scale: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """As word_ce of the logits inputs @ weight.T + bias, a slice of rows at a time: they are never held all at once.

    Args:
        inputs: [M, E], in the dtype to compute products in; the rest is fp32.
        weight: [V, E].
        bias: [V].
        target: [M].
        smoothing: as in caption_ce.
        scale: [M], what each row counts; None: 1. The sum is divided by M all the same.
        temperature: what the logits are divided by.
    """
    if len(target) == 0:
        return (inputs.sum() + weight[:0].sum() + bias[:0].sum()) * 0.0
    if temperature != 1.0:
        inputs, bias = inputs / temperature, bias / temperature
    scale = torch.ones(len(target), device=inputs.device) if scale is None else scale.float()
    return LinearCrossEntropy.apply(inputs, weight, bias, target, scale, smoothing)


class LinearCrossEntropy(torch.autograd.Function):
    """The gradient is made on the way forward, slice by slice, while the logits are still in the processor's cache."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, target: Tensor, scale: Tensor, smoothing: float
    ) -> Tensor:
        """The mean over M rows."""
        rows, learns = max(1, AT_ONCE // len(weight)), any(ctx.needs_input_grad)
        narrow, offset = weight.to(inputs.dtype), bias.to(inputs.dtype)
        gradients = [torch.empty_like(inputs), weight.new_zeros(weight.shape), bias.new_zeros(bias.shape)]
        total = torch.zeros((), device=inputs.device)
        slices = (inputs.split(rows), target.split(rows), scale.split(rows), gradients[0].split(rows))
        for some, right, counts, out in zip(*slices, strict=True):
            logp = torch.addmm(offset, some, narrow.mT).log_softmax(dim=1, dtype=torch.float32)
            total += _sum_ce(logp, right, counts, smoothing)
            if learns:
                pull = _pull(logp, right, smoothing).mul_(counts.unsqueeze(1))
                gradients[2] += pull.sum(dim=0)
                pull = pull.to(some.dtype)
                torch.mm(pull, narrow, out=out)
                gradients[1] += pull.mT @ some
        if learns:
            ctx.save_for_backward(*gradients)
            ctx.rows = len(target)
        return total / len(target)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of inputs, weight and bias."""
        scale = outputs[0] / ctx.rows
        return *(gradient * scale.to(gradient.dtype) for gradient in ctx.saved_tensors), None, None, None


def _sum_ce(logp: Tensor, target: Tensor, scale: Tensor, smoothing: float) -> Tensor:
    likely = (logp.gather(1, target.unsqueeze(1)).squeeze(1) * scale).sum()
    return -likely if smoothing == 0.0 else -(1 - smoothing) * likely - smoothing * (logp.mean(dim=1) * scale).sum()


def _pull(logp: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """The gradient of _sum_ce by the logits, in the place of logp: probabilities less the smoothed target."""
    pull = logp.exp_()
    if smoothing:
        pull -= smoothing / logp.shape[1]
    pull[torch.arange(len(target), device=target.device), target] -= 1 - smoothing
    return pull


def mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of [R] against [R]; 0 where R is 0."""
    return (predicted - target).square().sum() / max(1, len(target))


def huber(predicted: Tensor, target: Tensor, delta: float = 1.0) -> Tensor:
    """Huber loss (Huber 1964): squared within delta of the target, linear beyond; 0 where R is 0."""
    return F.huber_loss(predicted, target, reduction="sum", delta=delta) / max(1, len(target))


def plcc(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - Pearson's linear correlation over the batch, from 0 (best) to 2; 1 where either side is constant."""
    if len(target) < 2:
        return predicted.sum() * 0.0 + 1.0
    p, t = predicted - predicted.mean(), target - target.mean()
    # Within the root, so that the gradient of a constant prediction is finite.
    scale = ((p.square().mean() + EPSILON) * (t.square().mean() + EPSILON)).sqrt()
    return 1 - (p * t).mean() / scale


def rank(predicted: Tensor, target: Tensor, margin: float = 1.0) -> Tensor:
    """Pairwise rank hinge: for each pair with different targets, how far the prediction's order is from right.

    A pair costs max(0, min(margin, |t_i - t_j|) - sign(t_i - t_j) (p_i - p_j)): no pair is asked to stand further
    apart than its targets do. The mean over pairs is taken; 0 where there is none.
    """
    gap = target.unsqueeze(1) - target.unsqueeze(0)
    above = gap > 0
    cost = (gap.clamp(max=margin) - (predicted.unsqueeze(1) - predicted.unsqueeze(0))).clamp(min=0)
    return torch.where(above, cost, 0.0).sum() / above.sum().clamp(min=1)
