"""Weights in the usual forms: mapped to the network, or refused in one line, never taken in part."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models import googlenet, mobilenet_v2

from src.common.errors import UserError
from src.config.schema import BackboneConfig
from src.models.backbones.base import make_network
from tests.tiny import make_model, tiny_config

NAME = "test_resnet"


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A network whose weights are not those that a seed gives; its head has 7 classes."""
    torch.manual_seed(7)
    return timm.create_model(NAME, num_classes=7)


def load(weights: object, name: str = NAME, **changes: Any) -> dict[str, Tensor]:
    return make_network(BackboneConfig(name=name, weights=str(weights), **changes)).state_dict()


def assert_loaded(weights: object, expected: Mapping[str, Tensor]) -> None:
    loaded = load(weights)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


def prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        lambda state: {"state_dict": state, "epoch": 3, "args": argparse.Namespace(lr=0.1, out=Path("x"))},
        lambda state: {"model": state, "best": np.float64(0.8)},
        lambda state: prefixed(state, "module."),
        lambda state: {"state_dict": prefixed(state, "backbone.") | {"head.weight": torch.ones(2)}},
        lambda state: {"net": prefixed(state, "model._orig_mod.")},
        lambda state: {
            "state_dict": prefixed(state, "_orig_mod.module.encoder."),
            "optimizer": {"state": {0: torch.ones(3)}},
        },
        lambda state: {name.replace("layer1.", "layer1._orig_mod."): tensor for name, tensor in state.items()},
        lambda state: {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name},
        lambda state: {name: tensor.half().float() if tensor.ndim > 9 else tensor for name, tensor in state.items()},
    ],
)
def test_the_same_weights_in_another_form(trained: nn.Module, tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    torch.save(wrap(trained.state_dict()), tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth", trained.state_dict())


@pytest.mark.parametrize("average", ["model_ema", "state_dict_ema", "teacher", "ema_model"])
def test_a_moving_average_is_taken_where_it_is_complete(trained: nn.Module, tmp_path: Path, average: str) -> None:
    now = timm.create_model(NAME).state_dict()
    torch.save({"model": now, average: prefixed(trained.state_dict(), "module.")}, tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth", trained.state_dict())
    parameters = {name: tensor for name, tensor in trained.state_dict().items() if "running" not in name}
    torch.save({"model": now, average: parameters}, tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth", now)


def test_averaged_model_of_torch(trained: nn.Module, tmp_path: Path) -> None:
    torch.save(AveragedModel(trained).state_dict(), tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth", trained.state_dict())


def test_a_model_of_this_project(trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder, its run's folder, and one below the home folder."""
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    config = tiny_config()
    backbone = replace(config.model.backbone, weights=str(tmp_path / "w.safetensors"))
    folder = make_model(tmp_path / "run/model", replace(config, model=replace(config.model, backbone=backbone)))
    monkeypatch.setenv("HOME", str(tmp_path))
    for weights in (folder, folder.parent, folder / "model.safetensors", "~/run"):
        assert_loaded(weights, trained.state_dict())
    with pytest.raises(UserError, match=r"does not fit resnet10t: \d+ of its \d+ tensors are missing"):
        load(folder, "resnet10t")


def test_googlenet_of_torchvision_and_of_a_model_of_this_project(tmp_path: Path) -> None:
    theirs = googlenet(weights=None, init_weights=False).state_dict()
    torch.save(theirs, tmp_path / "w.pth")
    loaded = load(tmp_path / "w.pth", "torchvision/googlenet")
    torch.save(prefixed(loaded, "backbone.network."), tmp_path / "ours.pth")
    again = load(tmp_path / "ours.pth", "torchvision/googlenet")
    assert torch.equal(loaded["stages.4.inception5b.branch1.conv.weight"], theirs["inception5b.branch1.conv.weight"])
    assert all(torch.equal(tensor, again[name]) for name, tensor in loaded.items())
    del theirs["inception5b.branch1.conv.weight"]
    torch.save(theirs, tmp_path / "w.pth")
    with pytest.raises(
        UserError, match=r"1 of its \d+ tensors are missing .*such as inception5b\.branch1\.conv\.weight"
    ):
        load(tmp_path / "w.pth", "torchvision/googlenet")


def test_positions_of_another_image_size_are_interpolated(tmp_path: Path) -> None:
    theirs = timm.create_model("test_vit", img_size=64).state_dict()
    torch.save({"state_dict": prefixed(theirs, "module.")}, tmp_path / "w.pth")
    loaded = load(tmp_path / "w.pth", "test_vit", options={"img_size": 96})
    assert loaded["pos_embed"].shape != theirs["pos_embed"].shape
    assert torch.equal(loaded["blocks.0.attn.qkv.weight"], theirs["blocks.0.attn.qkv.weight"])


def test_another_layout_that_timm_can_convert(tmp_path: Path) -> None:
    """Files of ConvNeXt's authors number its downsampling layers and blocks in two lists."""
    ours = timm.create_model("test_convnext", num_classes=0)
    theirs = {}
    for name, tensor in ours.state_dict().items():
        name = name.replace("stem.", "downsample_layers.0.").replace("mlp.fc1", "pwconv1").replace("mlp.fc2", "pwconv2")
        name = name.replace("conv_dw", "dwconv").replace("head.norm", "norm")
        parts = name.split(".")
        if parts[0] == "stages":
            kind = (
                ["stages", parts[1], *parts[3:]]
                if parts[2] == "blocks"
                else ["downsample_layers", *parts[1:2], *parts[3:]]
            )
            name = ".".join(kind)
        theirs[name] = tensor.squeeze() if "pwconv" in name else tensor
    torch.save({"model": theirs}, tmp_path / "w.pth")
    loaded = load(tmp_path / "w.pth", "test_convnext")
    assert torch.equal(
        loaded["stages.1.blocks.0.conv_dw.weight"], ours.state_dict()["stages.1.blocks.0.conv_dw.weight"]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no tensors"),
        ({"epoch": 3, "names": ["a"]}, "holds no tensors"),
        ([torch.ones(2)], "holds no tensors"),
        ({"fc.weight": torch.ones(3)}, r"(\d+) of its \1 tensors are missing .*; the file has 1 tensors: fc\.weight$"),
        (mobilenet_v2().state_dict(), r"(\d+) of its \1 tensors are missing .*features\.0\.0\.weight"),
        (timm.create_model("resnet10t").state_dict(), r"\d+ of its \d+ tensors are missing or of another shape"),
        (timm.create_model(NAME), r"holds code, which is not run \(timm\."),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path / "w.pth")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"model.backbone.weights: {tmp_path / 'w.pth'} ")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\n"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is damaged or no file of weights"):
        load(tmp_path / name)


def test_weights_that_lack_a_tensor_or_belong_to_a_deeper_network_are_refused(tmp_path: Path) -> None:
    state = timm.create_model(NAME).state_dict()
    deeper = state | {"layer4.1.conv1.weight": torch.ones(2)}
    torch.save(deeper, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"it has no place for 1 of the tensors, such as layer4\.1\.conv1\.weight"):
        load(tmp_path / "w.pth")
    del state["layer4.0.bn1.running_mean"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"1 of its \d+ tensors are missing .*such as layer4\.0\.bn1\.running_mean"):
        load(tmp_path / "w.pth")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    for weights in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(UserError, match="is no file; give a file, a model folder, imagenet"):
            load(weights)
