"""Cross-entropy of captions, with label smoothing (Szegedy et al. 2016). It is no plug-in: decoders call it.
Held by tests/models/losses/test_cross_entropy.py.

Notation: M words, V tokens in the vocabulary, E size of the output layer's inputs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PAD = 0
SLICE_LOGITS = 2**21  # logits computed at a time: 8 MB


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
    words = (target != PAD).nonzero().squeeze(1)
    return word_cross_entropy(logits.reshape(-1, logits.shape[-1])[words], target[words], smoothing)


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
    """word_cross_entropy of the logits inputs @ weight.T + bias, computed for a slice of rows at a time.

    Args:
        inputs: [M, E], in the dtype to compute products in; the rest is fp32.
        weight: [V, E].
        bias: [V].
        target: [M].
        smoothing: as in caption_cross_entropy.
        scale: [M], weights of the rows; None: 1. The sum is divided by M in any case.
        temperature: divides the logits.
    """
    if len(target) == 0:
        return (inputs.sum() + weight[:0].sum() + bias[:0].sum()) * 0.0
    if temperature != 1.0:
        inputs, bias = inputs / temperature, bias / temperature
    scale = torch.ones(len(target), device=inputs.device) if scale is None else scale.float()
    return LinearCrossEntropy.apply(inputs, weight, bias, target, scale, smoothing)


class LinearCrossEntropy(torch.autograd.Function):
    """Computes the gradient in the forward pass, slice by slice, while the logits are in the processor's cache."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, target: Tensor, scale: Tensor, smoothing: float
    ) -> Tensor:
        """The mean over M rows."""
        size, learns = max(1, SLICE_LOGITS // len(weight)), any(ctx.needs_input_grad)
        narrow, offset = weight.to(inputs.dtype), bias.to(inputs.dtype)
        gradients = [torch.empty_like(inputs), weight.new_zeros(weight.shape), bias.new_zeros(bias.shape)]
        total = torch.zeros((), device=inputs.device)
        slices = (part.split(size) for part in (inputs, target, scale, gradients[0]))
        for rows, labels, weights, out in zip(*slices, strict=True):
            logp = torch.addmm(offset, rows, narrow.mT).log_softmax(dim=1, dtype=torch.float32)
            total += _loss_sum(logp, labels, weights, smoothing)
            if learns:
                gradient = _logit_gradient(logp, labels, smoothing).mul_(weights.unsqueeze(1))
                gradients[2] += gradient.sum(dim=0)
                gradient = gradient.to(rows.dtype)
                torch.mm(gradient, narrow, out=out)
                gradients[1] += gradient.mT @ rows
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


def _loss_sum(logp: Tensor, target: Tensor, scale: Tensor, smoothing: float) -> Tensor:
    likely = (logp.gather(1, target.unsqueeze(1)).squeeze(1) * scale).sum()
    return -likely if smoothing == 0.0 else -(1 - smoothing) * likely - smoothing * (logp.mean(dim=1) * scale).sum()


def _logit_gradient(logp: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """The gradient of _loss_sum by the logits, in the place of logp: probabilities less the smoothed target."""
    gradient = logp.exp_()
    if smoothing:
        gradient -= smoothing / logp.shape[1]
    gradient[torch.arange(len(target), device=target.device), target] -= 1 - smoothing
    return gradient
