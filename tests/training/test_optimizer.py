"""The optimizer's groups of parameters and their learning rates."""

import pytest
import torch

from src.config.schema import BackboneConfig, DecoderConfig, ModelConfig, TrainConfig
from src.models.backbones.base import Backbone
from src.models.multitask import MultitaskModel
from src.training.optimizer import lr_schedule, parameter_groups

VIT = {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2}


@pytest.fixture(scope="module")
def model() -> MultitaskModel:
    backbone = BackboneConfig("vit_tiny_patch16_224", weights="none", options=VIT, trainable=-1)
    config = ModelConfig(backbone=backbone, decoder=DecoderConfig(enabled=False))
    return MultitaskModel(config, Backbone(backbone))


def rates(model: MultitaskModel, train: TrainConfig) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) by parameter name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, train)
    result = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(result) == sum(len(group["params"]) for group in groups)  # none is in two groups
    assert set(result) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return result


def test_without_layer_decay_all_layers_learn_alike(model: MultitaskModel) -> None:
    found = rates(model, TrainConfig(lr=1.0, backbone_lr=0.1, weight_decay=0.5))
    assert {lr for name, (lr, _) in found.items() if name.startswith("backbone.")} == {0.1}
    assert {lr for name, (lr, _) in found.items() if not name.startswith("backbone.")} == {1.0}
    assert found["backbone.network.blocks.0.attn.qkv.weight"] == (0.1, 0.5)
    assert found["backbone.network.blocks.0.attn.qkv.bias"] == (0.1, 0.0)


def test_layer_decay_lowers_the_rate_layer_by_layer_from_the_last(model: MultitaskModel) -> None:
    found = rates(model, TrainConfig(lr=1.0, backbone_lr=0.1, weight_decay=0.5, layer_decay=0.5))
    for name, lr in [("patch_embed.proj", 0.0125), ("blocks.0.mlp.fc1", 0.025), ("blocks.1.mlp.fc1", 0.05)]:
        assert found[f"backbone.network.{name}.weight"] == (pytest.approx(lr), 0.5)
        assert found[f"backbone.network.{name}.bias"] == (pytest.approx(lr), 0.0)
    assert found["backbone.network.blocks.2.mlp.fc1.weight"] == (pytest.approx(0.1), 0.5)
    assert {lr for name, (lr, _) in found.items() if not name.startswith("backbone.")} == {1.0}


def test_the_schedule_scales_all_layers_alike(model: MultitaskModel) -> None:
    train = TrainConfig(lr=1.0, backbone_lr=0.1, layer_decay=0.5, warmup=0.5)
    optimizer = torch.optim.AdamW(parameter_groups(model, train))
    schedule = lr_schedule(optimizer, train, steps=10)
    peaks = [group["initial"] for group in optimizer.param_groups]
    for expected in (0.2, 0.4, 0.6):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([expected * lr for lr in peaks])
        optimizer.step()
        schedule.step()
