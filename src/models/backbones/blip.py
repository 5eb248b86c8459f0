"""blip/FOLDER or blip/HUB_NAME: the vision tower of a BLIP (Li et al. 2022), as transformers reads it.

Notation: B images, N places of the grid (the class token first), C channels, S side of an image in pixels.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.common.errors import UserError, one_line
from src.common.hub import hub_address, require_network
from src.config.schema import BackboneConfig
from src.models.layers.lora import require_peft

PREFIX = "blip/"
GRID_CLASS_TOKENS = 1
REMEDY = "give model.backbone.name blip/ and the folder of a BLIP with its processor, as save_pretrained writes both"
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps")
VISION_SIZES = (*SIZES, "image_size", "patch_size")
TEXT_SIZES = (*SIZES, "max_position_embeddings")


def is_blip(name: str) -> bool:
    """Whether a backbone's name is that of a BLIP."""
    return name.startswith(PREFIX)


def read_blip(name: str, load: Callable[[Any, str], Any]) -> Any:
    """The result of `load`, called with transformers and with a BLIP's folder or hub name.

    Raises:
        UserError: transformers is not installed, there is no such BLIP, or the hub cannot be reached.
    """
    require_peft("transformers")
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    place = name.removeprefix(PREFIX)
    try:
        if not Path(place).is_dir() and not isinstance(try_to_load_from_cache(place, "config.json"), str):
            require_network(hub_address(), place, REMEDY)
        return load(transformers, place)
    except UserError:
        raise
    except Exception as error:  # each of the libraries raises what it likes; a person gave the name
        raise UserError(f"model.backbone.name: no BLIP at {place} ({one_line(error)[:200]}); {REMEDY}") from error


def load_blip(name: str) -> Any:
    """transformers' BlipForConditionalGeneration with its weights, in fp32.

    Raises:
        UserError: as read_blip, or the files lack tensors, which transformers would leave random.
    """

    def load(library: Any, place: str) -> Any:
        network = library.BlipForConditionalGeneration
        blip, info = network.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
        if missing := sorted(info["missing_keys"]):
            of = f"{len(missing)} of its {len(blip.state_dict())} tensors are missing, such as {missing[0]}"
            raise UserError(f"model.backbone.name: the weights at {place} do not fit a BLIP: {of}; {REMEDY}")
        return blip

    return read_blip(name, load)


def make_network(config: BackboneConfig) -> "VisionTower":
    """The vision tower with BLIP's own weights, or at random (none), then without any file if its sizes are given.

    Raises:
        UserError: weights are named, the sizes do not fit each other, or as read_blip.
    """
    require_peft("transformers")
    from transformers import BlipVisionConfig, BlipVisionModel

    if config.weights not in ("imagenet", "none"):
        raise UserError("model.backbone.weights: a BLIP brings its own; leave the key out, or set it to none")
    if config.weights != "none":
        return VisionTower(load_blip(config.name).vision_model, complete_blip_config(config))
    complete = config if "vision" in config.options else complete_blip_config(config)
    try:
        return VisionTower(BlipVisionModel(BlipVisionConfig(**complete.options["vision"])), complete)
    except Exception as error:  # transformers checks sizes in many ways
        raise UserError(f"model.backbone.options.vision: no such BLIP ({one_line(error)[:200]})") from error


def native_image_size(config: BackboneConfig) -> int:
    """Side in pixels of the images that the tower was made for; errors as read_blip."""
    complete = config if "vision" in config.options else complete_blip_config(config)
    return int(complete.options["vision"]["image_size"])


def complete_blip_config(config: BackboneConfig) -> BackboneConfig:
    """The config with the sizes of both networks from BLIP's files, so that the files are not needed again."""

    def load(library: Any, place: str) -> BackboneConfig:
        blip, processor = library.BlipConfig.from_pretrained(place), library.BlipImageProcessor.from_pretrained(place)
        vision = {name: getattr(blip.vision_config, name) for name in VISION_SIZES}
        text = {name: getattr(blip.text_config, name) for name in TEXT_SIZES}
        mean, std = config.mean or list(processor.image_mean), config.std or list(processor.image_std)
        return replace(config, options={"vision": vision, "text": text}, mean=mean, std=std)

    return read_blip(config.name, load)


class VisionTower(nn.Module):
    """BLIP's vision tower with the part of timm's interface that a backbone needs.

    Its grid is the input of BLIP's text decoder: all places after the last normalisation, the class token first.

    Attributes:
        complete_config: the config that makes this network again without BLIP's files.
    """

    leading_tokens = 0  # before its grid: the class token is part of it

    def __init__(self, vision: Any, complete_config: BackboneConfig) -> None:
        super().__init__()
        self.vision = vision
        self.complete_config = complete_config
        self.checkpointing = False
        side = complete_config.options["vision"]["image_size"]
        self.pretrained_cfg = {"mean": OPENAI_CLIP_MEAN, "std": OPENAI_CLIP_STD, "input_size": (3, side, side)}
        self.feature_info = list(vision.encoder.layers)

    def forward_intermediates(
        self,
        pixels: Tensor,
        indices: list[int] | None = None,
        intermediates_only: bool = False,
        stop_early: bool = False,
    ) -> Any:
        """The grid [B, N, C] and the chosen layers' outputs over space [B, C, H, W], or the latter alone."""
        patch = self.vision.config.patch_size
        shape = (pixels.shape[2] // patch, pixels.shape[3] // patch)
        states = self.vision.embeddings(pixels, interpolate_pos_encoding=True)
        outputs, saves = [], self.checkpointing and self.training
        for i, layer in enumerate(self.vision.encoder.layers):
            states = checkpoint(layer, states, use_reentrant=False) if saves else layer(states)
            if indices is None or i in indices:
                outputs.append(states[:, 1:].transpose(1, 2).unflatten(2, shape))
        return outputs if intermediates_only else (self.vision.post_layernorm(states), outputs)

    def forward_features(self, pixels: Tensor) -> Tensor:
        """The grid [B, N, C] of images [B, 3, H, W]; positions are interpolated where the image is not S x S."""
        return self.forward_intermediates(pixels, [])[0]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trades time for memory in the backward pass."""
        self.checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameters to layer groups: the embeddings, then the layers."""
        last = [(r"^vision\.encoder\.layers\.(\d+)", None), (r"^vision\.post_layernorm", (99999,))]
        return {"stem": r"^vision\.embeddings", "blocks": last}
