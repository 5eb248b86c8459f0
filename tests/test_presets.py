"""Every preset in configs/model, made small: it learns eight photos by heart, is saved, loaded, and generates."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.config.loader import load_config
from src.config.schema import Config
from src.data.batch import Batch, TaskInput
from src.data.tokenizer import Tokenizer
from src.inference.predictions import predict_batch
from src.models.backbones.base import Backbone
from src.models.model_folder import load_model_folder, save_model
from src.models.multitask import MultitaskModel
from src.training.optimizer import lr_schedule, parameter_groups

PRESETS = sorted(Path("configs/model").glob("*.yaml"))
COUNT = 8
CAPTIONS = [
    "a red kite above a white boat",
    "two dogs run in the snow",
    "a dark and noisy photo",
    "the colours are bright and calm",
    "a child in a red coat jumps",
    "a sharp photo of a boat",
    "a dog sleeps",
    "snow on the sea at night",
]
SIDE = 75  # the least that InceptionV3 takes
BASE = {
    "model.backbone.weights": "none",
    "model.backbone.trainable": 0,  # the batches below hold features
    "model.mos.hidden": 64,
    "model.mos.dropout": 0.0,
    "train.lr": 0.003,
    "train.warmup": 0.2,
    "train.weight_decay": 0.0,
    "data.tokenizer.min_count": 1,
    "generate.max_length": 10,
}
DROPOUT = {f"model.decoder.{name}": 0.0 for name in ("dropout", "word_dropout", "grid_dropout", "label_smoothing")}
RECURRENT = DROPOUT | {f"model.decoder.{name}": 96 for name in ("embedding", "hidden", "attention_size")}
LLAMA = DROPOUT | {
    f"model.decoder.llama.{name}": size for name, size in (("dim", 32), ("heads", 4), ("kv_heads", 2), ("layers", 1))
}
TRANSFORMER = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 64}
VISION = {"image_size": 32, "patch_size": 16, "initializer_range": 0.2}  # wide enough to tell photos apart
BLIP = {
    "model.backbone.options": {"vision": TRANSFORMER | VISION, "text": TRANSFORMER},
    "model.decoder.lora.rank": 0,  # additions to random weights learn nothing by heart
    "model.decoder.label_smoothing": 0.0,
}
SMALL = {"recurrent": RECURRENT, "merge": RECURRENT, "llama": LLAMA, "blip": BLIP}  # overrides of each kind of decoder


@pytest.mark.parametrize("preset", PRESETS, ids=[path.stem for path in PRESETS])
def test_preset(preset: Path, tmp_path: Path) -> None:
    config = small(preset, tmp_path)
    tokenizer = Tokenizer.train(CAPTIONS, config.data.tokenizer, ["x"])
    torch.manual_seed(0)
    model = MultitaskModel(config.model, Backbone(config.model.backbone), tokenizer.size, 1)
    batch = cached(model, photos(tokenizer))
    learn(model, config, batch, tokenizer)
    save_model(tmp_path / "model", model, tokenizer.to_json(), config, {})
    loaded = load_model_folder(tmp_path / "model")
    assert answers(loaded.model, batch, config, tokenizer) == answers(model, batch, config, tokenizer)
    batch = photos(tokenizer)
    first, second = (predict_batch(each, batch, config.generate, tokenizer) for each in (model, loaded.model))
    assert first == second


def small(preset: Path, folder: Path) -> Config:
    """The preset with data, from an experiment's file as README says to write it, and then made small."""
    file = folder / "experiment.yaml"
    file.write_text(f"include: [{Path('configs/data/real.yaml').resolve()}, {preset.resolve()}]\n")
    full = load_config(file)
    assert full.data.sources
    return load_config(file, BASE | SMALL[full.model.decoder.kind])


def photos(tokenizer: Tokenizer) -> Batch:
    """Eight photos of coloured blocks, each with a caption and a mos."""
    blocks = torch.rand(COUNT, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pixels, rows = nn.functional.interpolate(blocks, size=SIDE), torch.arange(COUNT)
    encoded = [torch.tensor(tokenizer.encode(caption, "x")) for caption in CAPTIONS]
    tokens = nn.utils.rnn.pad_sequence(encoded, batch_first=True).unsqueeze(1)
    mos, style = torch.linspace(2.0, 8.0, COUNT), torch.full((COUNT,), tokenizer.style("x"))
    view = TaskInput(rows, pixels)
    return Batch([str(i) for i in range(COUNT)], ["x"] * COUNT, style, mos, tokens, view, TaskInput(rows, pixels))


def cached(model: MultitaskModel, batch: Batch) -> Batch:
    """The batch with features instead of pixels, and the mos head's scale fitted to them.

    Random weights make all photos alike; batch norms that have seen the photos tell them apart.
    """
    assert batch.mos_input is not None
    assert isinstance(batch.mos_input.pixels, Tensor)
    norms = [one for one in model.backbone.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        model.backbone(batch.mos_input.pixels)
        model.train()
        features = model.backbone(batch.mos_input.pixels)
    model.fit_scale(features.levels, batch.mos)
    rows = torch.arange(COUNT)
    return replace(
        batch, mos_input=TaskInput(rows, None, features.levels), caption_input=TaskInput(rows, None, features.grid)
    )


def learn(model: MultitaskModel, config: Config, batch: Batch, tokenizer: Tokenizer, steps: int = 300) -> None:
    """Trains until the answers are right; every trained parameter must get a gradient at the first step."""
    optimizer = torch.optim.AdamW(parameter_groups(model, config.train), betas=(0.9, 0.99))
    rates = lr_schedule(optimizer, config.train, steps)
    for step in range(steps):
        optimizer.zero_grad()
        model.losses(batch)["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.train.clip)
        optimizer.step()
        rates.step()
        if step == 0:
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            assert trained
            assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)
        if step % 30 == 29:
            mos, captions = answers(model, batch, config, tokenizer)
            near = max(abs(a - b) for a, b in zip(mos, batch.mos.tolist(), strict=True)) < 0.3
            if near and captions == CAPTIONS:
                return
    pytest.fail(f"after {steps} steps: mos {mos} for {batch.mos.tolist()}, captions {captions}")


def answers(model: MultitaskModel, batch: Batch, config: Config, tokenizer: Tokenizer) -> tuple[list[float], list[str]]:
    """mos and captions."""
    training = model.training
    predictions = predict_batch(model.eval(), batch, config.generate, tokenizer)
    model.train(training)
    return predictions.mos, predictions.captions
