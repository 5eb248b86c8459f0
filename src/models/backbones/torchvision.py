"""torchvision/googlenet: torchvision's GoogLeNet, with its weights, behind timm's interface.
Held by tests/models/backbones/test_base.py.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import GoogLeNet_Weights, googlenet

from src.common.errors import UserError
from src.common.hub import require_network
from src.config.schema import BackboneConfig
from src.models.backbones._weights_file import find_weights_file, load_tensors, read_tensors
from src.models.backbones.base import WEIGHTS_REMEDY

NAME = "torchvision/googlenet"
HEADS = ("aux1", "aux2", "fc")
NESTING = re.compile(r"\bstages\.\d+\.")  # of the modules of the class below, in a model folder of this project
STAGES = [
    ["conv1", "maxpool1"],
    ["conv2", "conv3", "maxpool2"],
    ["inception3a", "inception3b", "maxpool3"],
    ["inception4a", "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4"],
    ["inception5a", "inception5b"],
]


def make_network(config: BackboneConfig) -> nn.Module:
    """The network, as base.make_network describes it."""
    _require_name(config.name)
    if config.options:
        raise TypeError("it takes none")
    network = googlenet(weights=None, aux_logits=False, init_weights=False, transform_input=False)
    if config.weights != "none":
        path = find_imagenet_weights(config.name) if config.weights == "imagenet" else find_weights_file(config.weights)
        tensors = {NESTING.sub("", name): tensor for name, tensor in read_tensors(path).items()}
        load_tensors(network, tensors, f"{path} does not fit {config.name}", HEADS)
    return GoogLeNet(network)


def native_image_size(config: BackboneConfig) -> int:
    """Side in pixels of the images that the network was made for."""
    _require_name(config.name)
    return int(GoogLeNet.pretrained_cfg["input_size"][-1])


def find_imagenet_weights(name: str) -> Path:
    """The file of torchvision's weights, downloaded where the cache lacks it. Raises UserError without a network."""
    address = GoogLeNet_Weights.IMAGENET1K_V1.url
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(address).name
    if not cached.is_file():
        require_network(address, name, WEIGHTS_REMEDY)
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(cached), progress=False)
    return cached


def _require_name(name: str) -> None:
    if name != NAME:
        raise UserError(f"model.backbone.name: of torchvision there is {NAME} alone, not {name}")


class GoogLeNet(nn.Module):
    """torchvision's googlenet with the part of timm's interface that a backbone needs."""

    # torchvision's weights want its transform_input, which turns ImageNet's mean and deviation into these.
    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": (3, 224, 224)}  # noqa: RUF012

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.feature_info = STAGES
        self.checkpointing = False
        self.stages = nn.ModuleList(nn.ModuleDict({n: getattr(network, n) for n in s}) for s in STAGES)

    def forward_intermediates(
        self,
        pixels: Tensor,
        indices: list[int] | None = None,
        intermediates_only: bool = False,
        stop_early: bool = False,
    ) -> Any:
        """The last stage's output and all stages' outputs before pooling, or the latter alone."""
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
