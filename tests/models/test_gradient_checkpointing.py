"""Gradient checkpointing of LLaMA blocks and backbone: the same gradients from less memory."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from src.config.schema import BackboneConfig, DecoderConfig
from src.models.backbones.base import Backbone
from src.models.decoders.llama import LlamaDecoder
from tests.benchmarks.checkpointing import kept

V, C, B, N = 50, 16, 2, 9


def decoder(checkpointing: bool) -> LlamaDecoder:
    torch.manual_seed(0)
    options = {"dim": 32, "layers": 2, "heads": 4, "kv_heads": 2, "encoder_layers": 2, "checkpointing": checkpointing}
    return LlamaDecoder(DecoderConfig(kind="llama", dropout=0.3, word_dropout=0.2, options=options), V, C).train()


def backbone(checkpointing: bool) -> Backbone:
    config = BackboneConfig(name="mobilenetv3_small_050", weights="none", trainable=-1, checkpointing=checkpointing)
    return Backbone(config).train()


def caption_loss(model: LlamaDecoder) -> Tensor:
    seeded = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, V, (B, 5, 12), generator=seeded)
    return model.loss(torch.randn(B, N, C, generator=seeded), tokens)


def grid_loss(model: Backbone) -> Tensor:
    return model.grid(torch.rand(B, 3, 96, 96, generator=torch.Generator().manual_seed(1))).square().mean()


def measured(model: nn.Module, loss: Callable[..., Tensor]) -> tuple[dict[str, Tensor], int]:
    """Gradients, and the bytes held from the forward pass for the backward pass, weights left out."""
    torch.manual_seed(2)
    held = kept(model, partial(loss, model))
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, held


@pytest.mark.parametrize(("make", "loss", "most"), [(decoder, caption_loss, 0.2), (backbone, grid_loss, 0.4)])
def test_same_gradients_from_less(make: Callable[..., nn.Module], loss: Callable[..., Tensor], most: float) -> None:
    expected, whole = measured(make(False), loss)
    gradients, part = measured(make(True), loss)
    assert expected.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4, msg=name)
    assert part < most * whole
