"""What gradient checkpointing saves and costs: bytes kept for the backward pass, and a training step's seconds."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from src.config.schema import BackboneConfig, DecoderConfig
from src.models.backbones.base import Backbone
from src.models.decoders.llama import LlamaDecoder
from tests.benchmarks.generation import CHANNELS, PLACES, VOCABULARY, WORDS, best

Row = tuple[str, str, str]
Made = tuple[nn.Module, Callable[[], Tensor]]
PHOTOS = 8


def rows() -> list[Row]:
    """Megabytes kept with / without, their ratio; the step's time in words."""
    return [
        row(f"LLaMA decoder, {PHOTOS} photos with 5 captions", decoder),
        row(f"MobileNetV2 trained at 224 px, {PHOTOS} photos", backbone),
    ]


def row(name: str, make: Callable[[bool], Made]) -> Row:
    """One row of the table."""
    plain, lean = make(False), make(True)
    before, after = kept(*plain), kept(*lean)
    longer, shorter = best(partial(step, lean[1]), partial(step, plain[1]))
    about = f"{after / 1e6:.0f} / {before / 1e6:.0f} MB, step x{longer / shorter:.2f}"
    return f"gradient checkpointing: {name}", about, f"{after / before:.2f}"


def decoder(checkpointing: bool) -> Made:
    """Two LLaMA blocks of configs/compare/decoders.yaml's size."""
    options = {"dim": 512, "layers": 2, "heads": 8, "kv_heads": 2, "encoder_layers": 0, "checkpointing": checkpointing}
    model = LlamaDecoder(DecoderConfig(kind="llama", options=options), VOCABULARY, CHANNELS).train()
    grid, tokens = torch.randn(PHOTOS, PLACES, CHANNELS), torch.randint(4, VOCABULARY, (PHOTOS, 5, WORDS + 2))
    return model, lambda: model.loss(grid, tokens)


def backbone(checkpointing: bool) -> Made:
    """A backbone of which every layer is trained."""
    model = Backbone(BackboneConfig(weights="none", trainable=-1, checkpointing=checkpointing)).train()
    pixels = torch.rand(PHOTOS, 3, 224, 224)
    return model, lambda: model.grid(pixels).square().mean()


def kept(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Bytes held from the forward pass for the backward pass, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        found[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        total = loss()
    held = sum(value.untyped_storage().nbytes() for place, value in found.items() if place not in weights)
    total.backward()
    return held


def step(loss: Callable[[], Tensor]) -> None:
    """Forward and backward."""
    loss().backward()
