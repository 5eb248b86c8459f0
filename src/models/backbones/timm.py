"""Any model of timm, with weights from the hub, from a package, from a file or at random.
Held by tests/models/backbones/test_base.py and tests/models/backbones/test_weights_file.py.
"""

import difflib
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

import timm
from huggingface_hub import try_to_load_from_cache
from timm.models import get_deprecated_models
from torch import nn

from src.common.errors import UserError
from src.common.hub import hub_address, require_network
from src.config.schema import BackboneConfig
from src.models.backbones._bundled_weights import bundled_tensors
from src.models.backbones._weights_file import find_weights_file, load_tensors, read_tensors
from src.models.backbones.base import WEIGHTS_REMEDY

KEY = "model.backbone.name"
DEFAULT_SIZE = 224  # side of the images, where a model does not state it
RESERVED = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}  # read files
ANY_SIZE = ({"dynamic_img_size": True, "dynamic_img_pad": True}, {"dynamic_img_size": True})  # options of some models


def make_network(config: BackboneConfig) -> nn.Module:
    """The network, as base.make_network describes it."""
    if reserved := sorted(RESERVED & config.options.keys()):
        raise UserError(f"model.backbone.options.{reserved[0]}: name weights by model.backbone.weights; remove the key")
    current = replace(config, name=current_name(config.name))
    options: dict[str, Any] = {"num_classes": 0}
    if config.weights == "imagenet":
        cached = find_imagenet_weights(current.name)
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": cached} if cached else None}
    network: Any = _create_model(current, options)
    if config.weights == "bundled":
        _load(network, bundled_tensors(current.name), f"bundled weights do not fit {config.name}")
    elif config.weights not in ("imagenet", "none"):
        path = find_weights_file(config.weights)
        _load(network, read_tensors(path), f"{path} does not fit {config.name}")
    network.complete_config = current
    return network


def native_image_size(config: BackboneConfig) -> int:
    """Side in pixels of the images that a network was made for."""
    cfg = timm.get_pretrained_cfg(current_name(config.name))
    return int(config.options.get("img_size") or (cfg.input_size[-1] if cfg else DEFAULT_SIZE))


@cache
def current_name(name: str) -> str:
    """timm's name of a network today; where `name` is an older one, a line on stderr says so.

    Raises:
        UserError: timm has no such network or tag; names the nearest.
    """
    architecture, _, tag = name.partition(".")
    if new := get_deprecated_models().get(architecture):
        print(f"{KEY}: timm calls {name} {new} today", file=sys.stderr)
        return current_name(new)
    if not timm.is_model(architecture):
        near = _near_names(name)
        hint = f"did you mean {' or '.join(near)}?" if near else "see timm.list_models()"
        raise UserError(f"{KEY}: timm has no {name}; {hint}")
    tags = [known.partition(".")[2] for known in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in tags:
        choices = f"choose {', '.join(tags[:8])}, or leave it out" if tags else "leave it out"
        raise UserError(f"{KEY}: timm's {architecture} has no weights with the tag {tag}; {choices}")
    return name


def _near_names(name: str) -> list[str]:
    """Names of today that are most like a name in a hub's or another library's spelling."""
    plain = name.strip().lower().replace(":", "/").rpartition("/")[2].replace("-", "_")
    architecture = plain.partition(".")[0]
    if timm.is_model(architecture):
        return [get_deprecated_models().get(architecture) or plain]
    near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
    return near or timm.list_models(f"*{architecture.split('_')[0]}*")[:3]


def _create_model(config: BackboneConfig, options: dict[str, Any]) -> nn.Module:
    """The network, for images of any size where its class offers that: each task has its own size."""
    for flexible in ANY_SIZE:
        with suppress(TypeError):  # a class that knows no such option
            return timm.create_model(config.name, **options, **(flexible | config.options))
    return timm.create_model(config.name, **options, **config.options)


def _load(network: Any, tensors: Any, source: str) -> None:
    """Loads tensors; where they have another layout, timm's own conversion for the network's kind may know it."""
    names = network.pretrained_cfg.get("classifier") or ()
    heads = tuple(name.partition(".")[0] for name in ([names] if isinstance(names, str) else names))
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    load_tensors(network, tensors, source, heads, convert)


def find_imagenet_weights(name: str) -> str:
    """A cached file of the network's ImageNet weights, or "" where timm must download them.

    Checks the connection to the hub first: without a network the download fails only after most of a minute.

    Raises:
        UserError: timm has no weights for it, or the hub cannot be reached.
    """
    name = current_name(name)
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise UserError(f"model.backbone.weights: timm has no ImageNet weights for {name}; {WEIGHTS_REMEDY}")
    if cfg.hf_hub_id and not cfg.hf_hub_filename:
        cached = try_to_load_from_cache(cfg.hf_hub_id, "model.safetensors")
        if isinstance(cached, str):
            return cached
    require_network(hub_address(), name, WEIGHTS_REMEDY)
    return ""
