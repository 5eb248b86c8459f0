"""Networks by name, with their weights, in timm's interface: timm's own, torchvision's googlenet, a BLIP's tower."""

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.common.errors import UserError, one_line
from src.common.hub import hub_address, require_network
from src.config.schema import BackboneConfig, Config
from src.models.backbones.blip import complete_blip_config, is_blip, make_vision_tower

REMEDY = "give model.backbone.weights a local file, or none"
MOST_LEVELS = 7  # stages of a CNN; blocks of a plain transformer are more
USUAL = 224  # side of the photos that a network was made for which does not say
FLEXIBLE = ({"dynamic_img_size": True, "dynamic_img_pad": True}, {"dynamic_img_size": True})
GOOGLENET = "torchvision/googlenet"
GOOGLENET_STAGES = [
    ["conv1", "maxpool1"],
    ["conv2", "conv3", "maxpool2"],
    ["inception3a", "inception3b", "maxpool3"],
    ["inception4a", "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4"],
    ["inception5a", "inception5b"],
]


def make_network(config: BackboneConfig) -> nn.Module:
    """The network with weights from the hub (imagenet), at random (none) or from a file.

    Raises:
        UserError: unknown name or option, weights missing, of another network or not to be had.
    """
    if is_blip(config.name):
        return make_vision_tower(config)
    path = "" if config.weights in ("imagenet", "none") else config.weights
    if path and not Path(path).is_file():
        raise UserError(f"model.backbone.weights: {path} is no file; give a file, imagenet (from the hub) or none")
    try:
        return _googlenet(config, path) if config.name == GOOGLENET else _timm(config, path)
    except UserError:
        raise
    except Exception as error:  # each of the libraries raises what it likes; a person gave the name, file and options
        raise UserError(_explain(config, path, error)) from error


def resolve_image_sizes(config: Config) -> Config:
    """The config with photo sizes of -1 replaced by the side that its backbone was made for.

    Raises:
        UserError: unknown name, or photos of no common size for captions.
    """
    if not (data := config.data).caption_size:
        raise UserError("data.caption_size: is 0, but grids of one batch are of one size; give pixels, or -1")
    if min(data.caption_size, data.mos_size) >= 0:
        return config
    side = native_image_size(config.model.backbone)
    mos_size, caption_size = (side if size < 0 else size for size in (data.mos_size, data.caption_size))
    return replace(config, data=replace(data, mos_size=mos_size, caption_size=caption_size))


def native_image_size(config: BackboneConfig) -> int:
    """Side in pixels of the photos that a network was made for.

    Raises:
        UserError: unknown name; a BLIP's files are not to be had.
    """
    if is_blip(config.name):
        return int(
            (config if "vision" in config.options else complete_blip_config(config)).options["vision"]["image_size"]
        )
    if config.name == GOOGLENET:
        return int(GoogLeNet.pretrained_cfg["input_size"][-1])
    import timm

    _require(config.name)
    cfg = timm.get_pretrained_cfg(config.name)
    return int(config.options.get("img_size") or (cfg.input_size[-1] if cfg else USUAL))


def _explain(config: BackboneConfig, path: str, error: Exception) -> str:
    """One line on why a network could not be made."""
    reason = one_line(error)[:200] or type(error).__name__
    if path:
        return f"model.backbone.weights: {path} does not fit {config.name} ({reason})"
    if config.weights == "imagenet" and not isinstance(error, TypeError):
        return f"model.backbone: no weights for {config.name} from the hub ({reason}); give a local file, or none"
    return f"model.backbone: {config.name} cannot be made with options {config.options} ({reason})"


def _timm(config: BackboneConfig, path: str) -> nn.Module:
    logging.getLogger("timm").setLevel(logging.ERROR)
    _require(config.name)
    if config.weights == "imagenet":
        path = _from_hub(config.name)
    overlay = {"file": path} if path else None
    options: dict[str, Any] = {"pretrained": config.weights != "none", "pretrained_cfg_overlay": overlay}
    return _flexible(config, options | {"num_classes": 0})


def _require(name: str) -> None:
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        hint = f"near it: {', '.join(near)}" if near else "see timm.list_models()"
        raise UserError(f"model.backbone.name: timm has no {name}; {hint}")


def _flexible(config: BackboneConfig, options: dict[str, Any]) -> nn.Module:
    """The network, taking photos of any size where its class offers that: each task has its own."""
    import timm

    for flexible in FLEXIBLE:
        with suppress(TypeError):  # a class that knows no such option
            return timm.create_model(config.name, **options, **(flexible | config.options))
    return timm.create_model(config.name, **options, **config.options)


def _from_hub(name: str) -> str:
    """A cached file of the network's ImageNet weights, or "" where timm is to download them.

    Asks for the hub first: without a network the download fails only after most of a minute.
    """
    import timm
    from huggingface_hub import try_to_load_from_cache

    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise UserError(f"model.backbone.weights: timm has no ImageNet weights for {name}; give a local file, or none")
    if cfg.hf_hub_id and not cfg.hf_hub_filename:
        cached = try_to_load_from_cache(cfg.hf_hub_id, "model.safetensors")
        if isinstance(cached, str):
            return cached
    require_network(hub_address(), name, REMEDY)
    return ""


def _googlenet(config: BackboneConfig, path: str) -> nn.Module:
    from timm.models import load_state_dict
    from torchvision.models import GoogLeNet_Weights, googlenet

    if config.options:
        raise TypeError("it takes none")
    network = googlenet(weights=None, aux_logits=False, init_weights=False, transform_input=False)
    if config.weights == "imagenet":
        address = GoogLeNet_Weights.IMAGENET1K_V1.url
        cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(address).name
        if not cached.is_file():
            require_network(address, config.name, REMEDY)
        state = torch.hub.load_state_dict_from_url(address, weights_only=True, progress=False)
    elif path:
        state = load_state_dict(path)
    else:
        return GoogLeNet(network)
    head = ("aux1.", "aux2.", "fc.")
    body = {name: value for name, value in state.items() if not name.startswith(head)}
    missing, unexpected = network.load_state_dict(body, strict=False)
    wrong = [name for name in missing if not name.startswith(head)] + list(unexpected)
    if wrong:
        raise ValueError(f"missing or foreign entries: {', '.join(wrong[:3])}")
    return GoogLeNet(network)


class GoogLeNet(nn.Module):
    """torchvision's googlenet with the part of timm's interface that a backbone needs."""

    # torchvision's weights want its transform_input, which turns ImageNet's mean and deviation into these.
    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": (3, 224, 224)}  # noqa: RUF012

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.feature_info = GOOGLENET_STAGES
        self.checkpointing = False
        self.stages = nn.ModuleList(nn.ModuleDict({n: getattr(network, n) for n in s}) for s in GOOGLENET_STAGES)

    def forward_intermediates(
        self,
        pixels: Tensor,
        indices: list[int] | None = None,
        intermediates_only: bool = False,
        stop_early: bool = False,
    ) -> Any:
        """The last stage's output and all stages' ahead of their pooling, or the latter alone."""
        outputs = []
        for stage in self.stages:
            before, pixels = self._stage(stage, pixels)
            outputs.append(before)
        return outputs if intermediates_only else (pixels, outputs)

    def forward_features(self, pixels: Tensor) -> Tensor:
        """The last stage's output [B, 1024, H / 32, W / 32]."""
        return self.forward_intermediates(pixels)[0]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trades time for memory in the backward pass."""
        self.checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Parameters to layer groups: the stages."""
        return {"stages": r"^stages\.(\d+)"}

    def _stage(self, stage: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        before = pixels
        for name, module in stage.items():  # type: ignore[operator]
            pool = name.startswith("maxpool")
            saves = self.checkpointing and self.training and not pool
            pixels = checkpoint(module, pixels, use_reentrant=False) if saves else module(pixels)
            before = before if pool else pixels
        return before, pixels
