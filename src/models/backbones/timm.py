"""Any model of timm, with weights from the hub, from a file or at random.
Held by tests/models/backbones/test_base.py.
"""

from contextlib import suppress
from typing import Any

import timm
from huggingface_hub import try_to_load_from_cache
from torch import nn

from src.common.errors import UserError
from src.common.hub import hub_address, require_network
from src.config.schema import BackboneConfig
from src.models.backbones.base import WEIGHTS_REMEDY, weights_file

DEFAULT_SIZE = 224  # side of the images, where a model does not state it
ANY_SIZE = ({"dynamic_img_size": True, "dynamic_img_pad": True}, {"dynamic_img_size": True})  # options of some models


def make_network(config: BackboneConfig) -> nn.Module:
    """The network, as base.make_network describes it."""
    path = weights_file(config)
    _require_name(config.name)
    if config.weights == "imagenet":
        path = _cached_weights(config.name)
    overlay = {"file": path} if path else None
    options: dict[str, Any] = {"pretrained": config.weights != "none", "pretrained_cfg_overlay": overlay}
    return _create_model(config, options | {"num_classes": 0})


def native_image_size(config: BackboneConfig) -> int:
    """Side in pixels of the images that a network was made for."""
    _require_name(config.name)
    cfg = timm.get_pretrained_cfg(config.name)
    return int(config.options.get("img_size") or (cfg.input_size[-1] if cfg else DEFAULT_SIZE))


def _require_name(name: str) -> None:
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        hint = f"near it: {', '.join(near)}" if near else "see timm.list_models()"
        raise UserError(f"model.backbone.name: timm has no {name}; {hint}")


def _create_model(config: BackboneConfig, options: dict[str, Any]) -> nn.Module:
    """The network, for images of any size where its class offers that: each task has its own size."""
    for flexible in ANY_SIZE:
        with suppress(TypeError):  # a class that knows no such option
            return timm.create_model(config.name, **options, **(flexible | config.options))
    return timm.create_model(config.name, **options, **config.options)


def _cached_weights(name: str) -> str:
    """A cached file of the network's ImageNet weights, or "" where timm must download them.

    Checks the connection to the hub first: without a network the download fails only after most of a minute.
    """
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise UserError(f"model.backbone.weights: timm has no ImageNet weights for {name}; give a local file, or none")
    if cfg.hf_hub_id and not cfg.hf_hub_filename:
        cached = try_to_load_from_cache(cfg.hf_hub_id, "model.safetensors")
        if isinstance(cached, str):
            return cached
    require_network(hub_address(), name, WEIGHTS_REMEDY)
    return ""
