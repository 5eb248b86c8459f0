"""Training of a backbone's last two stages from the feature store against the same from photos: seconds of a step."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from src.config.loader import load_config
from src.config.schema import Config, SourceConfig
from src.data.dataloader import ResumableDataLoader
from src.inference.feature_extractor import reuse_memory
from src.models.backbones.base import Backbone
from src.training.datamodule import DataModule
from src.training.run import make_model
from tests.benchmarks.feeding import write_photos
from tests.benchmarks.generation import best

Row = tuple[str, str, str]
ROOT = Path(__file__).parents[2]
RATED, CAPTIONED = 9, 23  # photos of a step, as both real data sets mix in batches of 32
WORDS = "a brown dog runs over the green field with red ball in its mouth near water".split()


def rows() -> list[Row]:
    """Captions alone at 224 px, and both tasks with mos at 512 px."""
    reuse_memory()
    with tempfile.TemporaryDirectory() as folder:
        return [
            row(Path(folder) / "captions", "captions at 224 px", 0, 32),
            row(Path(folder) / "both", "both tasks, mos at 512 px", RATED, CAPTIONED),
        ]


def row(folder: Path, name: str, rated: int, captioned: int) -> Row:
    """One row of the table."""
    config = experiment(folder, rated, captioned)
    stored, live = (step(replace(config, data=replace(config.data, cache=cache))) for cache in (True, False))
    fast, slow = best(stored, live)
    return f"two stages trained, {name}: step, store / photos", f"{fast:.2f} / {slow:.2f} s", f"{slow / fast:.1f}x"


def experiment(folder: Path, rated: int, captioned: int) -> Config:
    """configs/model/trained_top.yaml on photos of one batch, with captions of Flickr8k's mean length."""
    config = load_config(ROOT / "configs/model/trained_top.yaml", {"model.backbone.weights": "none"})
    photos = write_photos(folder / "flickr/Images", captioned, (224, 224))
    lines = [f"{p.name},{' '.join(WORDS[i % 4 : i % 4 + 12])}" for p in photos for i in range(5)]
    (folder / "flickr/captions.txt").write_text("\n".join(["image,caption", *lines]))
    sources = [SourceConfig(format="flickr8k", path=str(folder / "flickr"))]
    if rated:
        photos = write_photos(folder / "rated/train", rated, (512, 512))
        table = [f"{p.stem},./train/{p.name},{i}," for i, p in enumerate(photos)]
        (folder / "rated/train.csv").write_text("\n".join(["img_name,img_path,mos,comments", *table]))
        sources.append(SourceConfig(format="samsung", path=str(folder / "rated")))
    data = replace(config.data, sources=sources, val=0.0, mos_size=512, caption_size=224)
    data = replace(data, split_dir=str(folder / "splits"), cache_dir=str(folder / "cache"))
    config = replace(config, data=data)
    config.model.mos.enabled = bool(rated)
    config.data.tokenizer.min_count = 1
    return config


def step(config: Config) -> Callable[[], None]:
    """A step of training: the batch, forward, backward and the optimiser."""
    torch.manual_seed(0)
    backbone = Backbone(config.model.backbone)
    data = DataModule(config, backbone, progress=False)
    model = make_model(config, backbone, data).train()
    loader = data.train_loader()
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-4)

    def run() -> None:
        train_step(model, loader, optimizer)

    return run


def train_step(model: nn.Module, loader: ResumableDataLoader, optimizer: torch.optim.Optimizer) -> None:
    """One step on the loader's first batch."""
    batch = next(iter(loader))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.losses(batch)["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
