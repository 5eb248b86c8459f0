"""BLIP (Li et al. 2022) as transformers reads it: its files, its vision tower as a network, its words.

Notation: B photos, N places of the grid (the class token first), C channels, S side of a photo in pixels.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as Engine
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.common.errors import UserError, one_line
from src.common.hub import hub_address, require_network
from src.config.schema import BackboneConfig, Config
from src.data.formats.base import style_names
from src.data.tokenizer import Tokenizer
from src.models.layers.lora import require_peft

PREFIX = "blip/"
REMEDY = "give model.backbone.name blip/ and the folder of a BLIP with its processor, as save_pretrained writes both"
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps")
VISION_SIZES = (*SIZES, "image_size", "patch_size")
TEXT_SIZES = (*SIZES, "max_position_embeddings")


def is_blip(name: str) -> bool:
    """Whether a backbone's name is that of a BLIP."""
    return name.startswith(PREFIX)


def read_blip(name: str, load: Callable[[str], Any]) -> Any:
    """What `load` makes of a BLIP's folder or hub name.

    Raises:
        UserError: transformers is not installed, there is no such BLIP, or the hub cannot be reached.
    """
    require_peft("transformers")
    from huggingface_hub import try_to_load_from_cache
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place = name.removeprefix(PREFIX)
    try:
        if not Path(place).is_dir() and not isinstance(try_to_load_from_cache(place, "config.json"), str):
            require_network(hub_address(), place, REMEDY)
        return load(place)
    except UserError:
        raise
    except Exception as error:  # each of the libraries raises what it likes; a person gave the name
        raise UserError(f"model.backbone.name: no BLIP at {place} ({one_line(error)[:200]}); {REMEDY}") from error


def load_blip(name: str) -> Any:
    """transformers' BlipForConditionalGeneration with its weights, in fp32; errors as `read`."""

    def load(place: str) -> Any:
        from transformers import BlipForConditionalGeneration

        return BlipForConditionalGeneration.from_pretrained(place, dtype=torch.float32)

    return read_blip(name, load)


def make_vision_tower(config: BackboneConfig) -> "VisionTower":
    """The vision tower with BLIP's own weights, or at random (none), then without any file if its sizes are given.

    Raises:
        UserError: weights are named, the sizes do not fit each other, or as `read`.
    """
    require_peft("transformers")
    from transformers import BlipVisionConfig, BlipVisionModel

    if config.weights not in ("imagenet", "none"):
        raise UserError("model.backbone.weights: a BLIP brings its own; leave the key out, or set it to none")
    if config.weights != "none":
        return VisionTower(load_blip(config.name).vision_model, complete_blip_config(config))
    made = config if "vision" in config.options else complete_blip_config(config)
    try:
        return VisionTower(BlipVisionModel(BlipVisionConfig(**made.options["vision"])), made)
    except Exception as error:  # transformers checks sizes in many ways
        raise UserError(f"model.backbone.options.vision: no such BLIP ({one_line(error)[:200]})") from error


def complete_blip_config(config: BackboneConfig) -> BackboneConfig:
    """The config with all that BLIP's files say of its networks, so that they are not needed again."""

    def load(place: str) -> BackboneConfig:
        from transformers import BlipConfig, BlipImageProcessor

        blip, photos = BlipConfig.from_pretrained(place), BlipImageProcessor.from_pretrained(place)
        vision = {name: getattr(blip.vision_config, name) for name in VISION_SIZES}
        text = {name: getattr(blip.text_config, name) for name in TEXT_SIZES}
        mean, std = config.mean or list(photos.image_mean), config.std or list(photos.image_std)
        return replace(config, options={"vision": vision, "text": text}, mean=mean, std=std)

    return read_blip(config.name, load)


class VisionTower(nn.Module):
    """BLIP's vision tower with the part of timm's interface that a backbone needs.

    Its grid is what BLIP's text decoder sees: all places after the last normalisation, the class token first.

    Attributes:
        made_from: the config that makes this network again without BLIP's files.
    """

    tokens_ahead = 0  # of its grid: the class token is part of it

    def __init__(self, vision: Any, made_from: BackboneConfig) -> None:
        from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

        super().__init__()
        self.vision = vision
        self.made_from = made_from
        self.checkpointing = False
        side = made_from.options["vision"]["image_size"]
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
        """The grid [B, N, C] of photos [B, 3, H, W]; positions are interpolated where the photo is not S x S."""
        return self.forward_intermediates(pixels, [])[0]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trades time for memory in the backward pass."""
        self.checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameters to layer groups: the embeddings, then the layers."""
        last = [(r"^vision\.encoder\.layers\.(\d+)", None), (r"^vision\.post_layernorm", (99999,))]
        return {"stem": r"^vision\.embeddings", "blocks": last}


@dataclass
class BlipVocabulary:
    """A BLIP's own words.

    Attributes:
        engine: the content of its tokenizer.json.
        first: its ids of what we call pad, unk and end.
        start: its id of the token that starts a caption.
    """

    engine: dict[str, Any]
    first: list[int]
    start: int

    def ids(self, styles: int) -> list[int]:
        """Its id of each of our tokens; a style is one more token that starts a caption."""
        return self.first + [self.start] * styles + list(self._plain().values())

    def tokenizer(self, styles: list[str], max_length: int) -> Tokenizer:
        """Its words with ours in front: pad, unk and end, the styles, then its own in their order."""
        names = {token: name for name, token in self.engine["model"]["vocab"].items()}
        ours = [*(names[token] for token in self.first), *(f"<style:{style}>" for style in styles), *self._plain()]
        model = self.engine["model"] | {"vocab": {name: i for i, name in enumerate(ours)}}
        parts = {"model": model, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        return Tokenizer(Engine.from_str(json.dumps(self.engine | parts)), "wordpiece", styles, max_length)

    def _plain(self) -> dict[str, int]:
        """Words to ids, in the order of these, without special tokens."""
        special = {token["id"] for token in self.engine["added_tokens"]} | {self.start}
        ordered = sorted(self.engine["model"]["vocab"].items(), key=lambda pair: pair[1])
        return {name: token for name, token in ordered if token not in special}


def read_blip_vocabulary(name: str) -> BlipVocabulary:
    """The words of a BLIP by its backbone's name; errors as `read`."""

    def load(place: str) -> BlipVocabulary:
        from transformers import BertTokenizer, BlipConfig

        own, text = BertTokenizer.from_pretrained(place), BlipConfig.from_pretrained(place).text_config
        first = [own.pad_token_id, own.unk_token_id, text.sep_token_id]
        return BlipVocabulary(json.loads(own.backend_tokenizer.to_str()), first, text.bos_token_id)

    return read_blip(name, load)


def blip_tokenizer(config: Config) -> Tokenizer | None:
    """The tokenizer of a decoder that comes with its words; None where one is to be trained.

    Raises:
        UserError: as `read`.
    """
    model = config.model
    if not (model.decoder.enabled and model.decoder.kind == "blip" and is_blip(model.backbone.name)):
        return None
    if model.backbone.weights == "none":
        return None
    return read_blip_vocabulary(model.backbone.name).tokenizer(
        style_names(config.data.sources), config.data.tokenizer.max_length
    )
