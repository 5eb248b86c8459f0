"""A tiny model folder and tiny photos, made on the spot, for tests of the commands."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from src.config.schema import (
    BackboneConfig,
    Config,
    DataConfig,
    DecoderConfig,
    GenerationConfig,
    ModelConfig,
    MosConfig,
    SourceConfig,
    TokenizerConfig,
    TrackConfig,
)
from src.data.tokenizer import END, Tokenizer
from src.models.backbones.base import Backbone
from src.models.model_folder import save_model
from src.models.multitask import MultitaskModel

NAMES = ["0213074526", "1e5", "00", "with space", "사진 하나"]
CAPTIONS = ["a sharp photo with soft light", "a dull photo with noisy colours", "a dark scene", "a bright calm scene"]
META = {"mos_mean": 5.5, "mos_range": [1.8, 8.6], "comment": "the commonest comment", "data_hash": "abc", "scores": {}}


def write_photo(path: Path, seed: int, size: int = 40) -> None:
    """A small photo of random blocks, JPEG whatever its name ends in."""
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    photo = cv2.resize(blocks, (size, size), interpolation=cv2.INTER_NEAREST)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", photo)[1].tobytes())


def tiny_config(mos: bool = True, captions: bool = True, sources: list[SourceConfig] | None = None) -> Config:
    """A config whose model runs in milliseconds."""
    decoder = DecoderConfig(
        enabled=captions, embedding=8, hidden=16, attention_size=8, dropout=0.0, word_dropout=0.0, grid_dropout=0.0
    )
    data = DataConfig(
        sources=sources or [SourceConfig(format="samsung", path="data", name="challenge")],
        caption_size=32,
        mos_size=32,
        cache=False,
        tokenizer=TokenizerConfig(min_count=1),
    )
    backbone = BackboneConfig(name="test_resnet", weights="none")
    model = ModelConfig(backbone=backbone, mos=MosConfig(enabled=mos, hidden=8), decoder=decoder)
    generate = GenerationConfig(method="beam", beam=2, max_length=6)
    return Config(data=data, model=model, generate=generate, track=TrackConfig(name="tiny"))


def make_model(
    folder: Path, config: Config | None = None, styles: tuple[str, ...] = ("challenge",), seed: int = 0, **meta: object
) -> Path:
    """A model folder with random weights; its mos head is scaled to mos around 5.5."""
    torch.manual_seed(seed)
    config = config or tiny_config()
    tokenizer = Tokenizer.train(CAPTIONS, config.data.tokenizer, styles if config.model.decoder.enabled else ())
    model = MultitaskModel(config.model, Backbone(config.model.backbone), tokenizer.size, len(styles))
    with torch.no_grad():  # an untrained model answers every photo alike
        if model.mos is not None:
            model.fit_scale(model.backbone.levels(torch.rand(16, 3, 32, 32)), 5.5 + torch.randn(16))
            model.mos.body[-1].weight.normal_(std=0.2)
        if model.decoder is not None:
            model.decoder.words.weight.normal_()
            reads = model.decoder.grid if config.model.decoder.kind == "llama" else model.decoder.first
            reads.weight.normal_(std=3.0)
            model.decoder.vocabulary.bias[END] = -4  # or captions are empty
    kept = replace(config, track=replace(config.track, name=folder.name))
    save_model(folder, model, tokenizer.to_json(), kept, {**META, **meta})
    return folder
