"""A run's data from files on disk: parts, loaders, cache, and going on within an epoch as Lightning does."""

import csv
import json
import warnings
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.config.schema import BackboneConfig, Config, DataConfig, SourceConfig, TokenizerConfig
from src.data.batch import Batch
from src.data.dataloader import ResumableDataLoader
from src.data.dataset import ImageDataset, InputOptions
from src.models.backbones.base import Backbone
from src.training.datamodule import DataModule, build_feature_store
from src.training.run import make_model
from tests.inference.test_feature_extractor import Tiny

WORDS = ["dark", "bright", "sharp", "blurred", "red", "green", "calm", "busy"]


def write_challenge(folder: Path, photos: int, comments: int = 2, broken: int = 0) -> None:
    """The challenge's layout: a row for each comment; the last `broken` photos are cut short."""
    (folder / "train").mkdir(parents=True)
    rng = np.random.default_rng(photos)
    rows = []
    for i in range(photos):
        path = folder / "train" / f"p{i:03}.jpg"
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (40, 40)))
        if i >= photos - broken:
            path.write_bytes(path.read_bytes()[:200])
        for _ in range(comments or 1):
            text = " ".join(rng.choice(WORDS, 4)) if comments else ""
            rows.append([f"p{i:03}", f"./train/p{i:03}.jpg", 3 + 4 * i / photos, text])
    with (folder / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["img_name", "img_path", "mos", "comments"], *rows])


def write_flickr(folder: Path, photos: int) -> None:
    """Flickr8k's layout with a caption file as on Kaggle."""
    (folder / "Images").mkdir(parents=True)
    rng = np.random.default_rng(1)
    rows = ["image,caption"]
    for i in range(photos):
        cv2.imwrite(str(folder / "Images" / f"f{i:03}.jpg"), rng.integers(0, 256, (48, 36, 3), np.uint8))
        rows += [f"f{i:03}.jpg,a {' '.join(rng.choice(WORDS, 3))} photo ." for _ in range(5)]
    (folder / "captions.txt").write_text("\n".join(rows) + "\n")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """30 rated photos with comments and 20 captioned ones; 32 px, four to a batch."""
    write_challenge(tmp_path / "challenge", 30)
    write_flickr(tmp_path / "flickr", 20)
    sources = [
        SourceConfig(format="samsung", path=str(tmp_path / "challenge")),
        SourceConfig(format="flickr8k", path=str(tmp_path / "flickr"), style="flickr"),
    ]
    config = Config(data=DataConfig(sources=sources, val=0.2, test=0.1, caption_size=32, mos_size=32))
    config.data.split_dir, config.data.cache_dir = str(tmp_path / "splits"), str(tmp_path / "features")
    config.data.tokenizer = TokenizerConfig(min_count=1)
    config.train.batch_size = 4
    return config


def contents(batch: Batch) -> tuple:
    """All of a batch that could differ."""
    views = [
        (v.rows.tolist(), v.features if v.pixels is None else v.pixels)
        for v in (batch.mos_input, batch.caption_input)
        if v
    ]
    return (
        batch.names,
        batch.tokens.tolist(),
        [(rows, x.tolist() if isinstance(x, Tensor) else None) for rows, x in views],
    )


def test_parts_and_labels(config) -> None:
    data = DataModule(config)
    assert {part: len(samples) for part, samples in data.parts.items()} == {"train": 35, "val": 10, "test": 5}
    assert data.tokenizer.styles == ["samsung", "flickr"]
    val = list(data.val_loader())
    assert [name for batch in val for name in batch.names] == [s.name for s in data.parts["val"]]
    assert [r for batch in val for r in batch.references] == [list(s.captions) for s in data.parts["val"]]
    names = sorted(name for batch in data.train_loader() for name in batch.names)
    assert set(names) <= {s.name for s in data.parts["train"]}
    assert len(names) == len(set(names)) >= 32


def test_the_vocabulary_is_of_the_training_part_only(config, tmp_path) -> None:
    data = DataModule(config)
    held_out = data.parts["val"][0]
    path = tmp_path / "challenge" / "train.csv"
    path.write_text(
        path.read_text().replace(f"{held_out.name}.jpg,{held_out.mos},", f"{held_out.name}.jpg,{held_out.mos},unseen ")
    )
    again = DataModule(config)
    assert any("unseen" in text for s in again.parts["val"] for text in s.captions)
    assert again.tokenizer.to_json() == data.tokenizer.to_json()
    assert again.data_hash != data.data_hash


def test_meta_is_what_the_training_photos_say(config) -> None:
    data = DataModule(config)
    mos = [s.mos for s in data.parts["train"] if s.mos is not None]
    meta = json.loads(json.dumps(data.meta()))
    assert meta["mos_mean"] == pytest.approx(np.mean(mos))
    assert meta["mos_std"] == pytest.approx(np.std(mos))
    assert meta["mos_range"] == [min(mos), max(mos)]
    assert meta["photos"] == {"train": 35, "val": 10, "test": 5}
    assert meta["data_hash"] == DataModule(config).data_hash
    assert set(meta["comments"]) == {"samsung", "flickr"}
    assert meta["comment"] == meta["comments"]["samsung"]
    texts = [t for s in data.parts["train"] if s.source == "samsung" for t in s.captions]
    assert meta["comment"] in texts
    assert texts.count(meta["comment"]) == max(map(texts.count, texts))


def test_every_batch_has_rated_and_captioned_photos(config) -> None:
    for batch in DataModule(config).train_loader():
        assert batch.mos_input
        assert len(batch.mos_input.rows) >= 2
        assert sorted(set(batch.sources)) == ["flickr8k", "samsung"]


@pytest.mark.parametrize("workers", [0, 2])
def test_goes_on_within_an_epoch(config, workers) -> None:
    config.data.workers = workers
    whole = DataModule(config).train_loader()
    expected = [[contents(batch) for batch in whole] for _ in range(3)]
    config.data.workers = 0
    assert [contents(batch) for batch in DataModule(config).train_loader()] == expected[0]
    config.data.workers = workers
    assert expected[0] != expected[1]
    assert len(whole) == len(expected[0]) == 9
    for done in (1, 8, 9):
        cut = DataModule(config).train_loader()
        first = list(cut)
        assert [contents(batch) for batch in first] == expected[0]
        for count, _ in enumerate(iter(cut), 1):
            if count == done:
                state = json.loads(json.dumps(cut.state_dict()))
                break
        again = DataModule(config).train_loader()
        again.load_state_dict(state)
        rest = [contents(batch) for batch in again]
        assert rest == (expected[1][done:] if done < 9 else expected[2])
        assert [contents(batch) for batch in again] == expected[2] or done == 9


def learner(seen: list[list[str]], die_at: int = -1):
    from lightning.pytorch import LightningModule

    class Probe(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            if len(seen) == die_at:
                raise RuntimeError("killed")
            seen.append([*batch.names, str(batch.tokens.sum().item())])
            return self.weight.sum()

        def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
            return batch.to(device)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Probe()


@pytest.mark.parametrize("die_at", [5, 9, 13])
def test_lightning_goes_on_with_exactly_the_next_batch(config, tmp_path, die_at) -> None:
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    def trainer(folder: Path) -> Trainer:
        keep = ModelCheckpoint(folder, every_n_train_steps=1, save_last=True)
        options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        return Trainer(max_epochs=3, callbacks=[keep], use_distributed_sampler=False, **options)

    expected: list[list[str]] = []
    seen: list[list[str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(tmp_path / "whole").fit(learner(expected), DataModule(config).train_loader())
        with pytest.raises(RuntimeError, match="killed"):
            trainer(tmp_path / "cut").fit(learner(seen, die_at), DataModule(config).train_loader())
        last = tmp_path / "cut" / "last.ckpt"
        trainer(tmp_path / "cut").fit(learner(seen), DataModule(config).train_loader(), ckpt_path=str(last))
    assert len(expected) == 27
    assert seen == expected


def test_loaders_leave_the_global_random_state_alone(config) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    data = DataModule(config)
    for loader in (data.train_loader(), data.val_loader()):
        list(loader)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_cached_features_are_the_live_ones(config) -> None:
    """The whole way with a real network: the same batches, once from the cache and once from pixels."""
    config.data.caption_size = 64
    config.model.backbone = BackboneConfig(name="resnet10t", weights="none")
    torch.manual_seed(0)
    backbone = Backbone(config.model.backbone).eval()
    cached, live = DataModule(config, backbone, progress=False), DataModule(config)
    assert cached.cached
    for one, other in zip(cached.train_loader(), live.train_loader(), strict=True):
        assert one.names == other.names
        assert one.mos_input
        assert one.caption_input
        with torch.no_grad():
            levels, grid = backbone.levels(other.mos_input.pixels), backbone.grid(other.caption_input.pixels)
        assert one.mos_input.pixels is None
        torch.testing.assert_close(one.mos_input.features, levels, rtol=0.05, atol=0.05 * levels.std().item())
        torch.testing.assert_close(one.caption_input.features.float(), grid, rtol=0.05, atol=0.05 * grid.std().item())


def test_the_cache_holds_only_what_the_heads_learn_from(config) -> None:
    config.model.backbone = BackboneConfig(name="resnet10t", weights="none")
    torch.manual_seed(0)
    backbone = Backbone(config.model.backbone)
    data = DataModule(config, backbone, progress=False)
    built = data.fill_cache()
    wanted = data.parts["train"] + data.parts["val"]
    assert built.photos == len(wanted)
    assert len(data.cache.stores["grid"][0]) == len(wanted)
    assert len(data.cache.stores["levels"][0]) == sum(s.mos is not None for s in wanted)
    assert DataModule(config, backbone, progress=False).fill_cache().photos == 0
    assert data.fill_cache(["test"]).photos == len(data.parts["test"])
    config.model.decoder.enabled = False
    alone = DataModule(config, backbone, progress=False)
    assert set(alone.cache.stores) == {"levels"}
    assert all(sample.mos is not None for sample in alone.parts["train"])


def test_build_for_config_makes_its_own_backbone(config) -> None:
    config.model.backbone = BackboneConfig(name="resnet10t", weights="none")
    assert build_feature_store(config).photos == 45
    config.data.cache = False
    with pytest.raises(UserError, match="nothing to compute"):
        build_feature_store(config)


class Head:
    """Takes the scales."""

    def fit_scale(self, levels: Tensor, mos: Tensor) -> None:
        self.levels, self.mos = levels, mos


def test_scales_are_of_the_training_photos(config) -> None:
    torch.manual_seed(0)
    backbone = Tiny()
    cached, live = Head(), Head()
    DataModule(config, backbone, progress=False).fit_scale(cached)
    config.data.cache = False
    data = DataModule(config, backbone, progress=False)
    data.fit_scale(live)
    torch.testing.assert_close(cached.levels, live.levels, rtol=0.01, atol=0.01)
    assert sorted(cached.mos.tolist()) == pytest.approx(sorted(s.mos for s in data.parts["train"] if s.mos is not None))


def test_unreadable_photos_are_counted_in_one_warning(config, tmp_path) -> None:
    write_challenge(tmp_path / "broken", 20, broken=6)
    config.data.sources[0].path = str(tmp_path / "broken")
    config.data.val = 0.1
    for backbone in (Tiny(), None):
        data = DataModule(config, backbone, progress=False)
        broken = {s.name for s in data.parts["train"] if s.source == "samsung" and int(s.name[1:]) >= 14}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loader = data.train_loader()
            # As many as there are and no more, as Lightning asks for them.
            epochs = [list(islice(loader, len(loader))) for _ in range(2)]
        text = f"{len(broken)} of {len(data.parts['train'])} {'train ' if backbone else ''}photos cannot be read"
        assert [str(w.message).startswith(text) for w in caught] == [True]
        for epoch in epochs:
            used = {b.names[i] for b in epoch for view in (b.mos_input, b.caption_input) if view for i in view.rows}
            assert not used & broken
            assert len(used) > 20


def test_photos_none_of_which_can_be_read_train_nothing(config, tmp_path) -> None:
    write_challenge(tmp_path / "broken", 6, broken=6)
    config.data.sources = [SourceConfig(format="samsung", path=str(tmp_path / "broken"), name="samsung")]
    config.data.cache = False
    data = DataModule(config, Tiny(), progress=False)
    with pytest.raises(UserError, match="none of the photos can be read, p"):
        list(data.train_loader())
    with pytest.raises(UserError, match="none of the train photos can be read"):
        data.fit_scale(Head())


def test_errors_say_what_to_do(config) -> None:
    config.data.test = 0.0
    with pytest.raises(UserError, match="no labelled test photos: set data.test"):
        DataModule(config).loader("test")
    config.data.sources = config.data.sources[1:]
    config.model.decoder.enabled = False
    with pytest.raises(UserError, match="no training photo carries a label"):
        DataModule(config)


def test_augmentation_with_the_cache_is_warned_of(config) -> None:
    config.data.augment_captions = True
    with pytest.warns(UserWarning, match="augment_captions changes live photos only"):
        DataModule(config, Tiny())


def test_a_loader_of_no_training_has_no_state(config) -> None:
    data = DataModule(config)
    photos = data.dataset("val")
    assert isinstance(photos, ImageDataset)
    assert photos.options == InputOptions.of(config, labelled=True)
    loader = data.val_loader()
    assert isinstance(loader, ResumableDataLoader)
    assert loader.state_dict() == {}
    assert [name for batch in data.val_loader(most=5) for name in batch.names] == photos.names[::2]
    assert len(list(loader)) == len(list(loader)) == len(loader) == 3


def test_trained_layers_learn_the_same_from_the_cache_as_from_photos(config) -> None:
    config.model.backbone = BackboneConfig(name="mobilenetv3_small_050", weights="none", trainable=1, fixed_norm=True)
    config.model.decoder = replace(config.model.decoder, dropout=0.0, word_dropout=0.0, grid_dropout=0.0)
    config.model.mos.dropout = 0.0
    losses, gradients = [], []
    for cached in (True, False):
        config.data.cache = cached
        torch.manual_seed(0)
        backbone = Backbone(config.model.backbone)
        data = DataModule(config, backbone, progress=False)
        assert data.cached == cached
        model = make_model(config, backbone, data).train()
        batch = next(iter(data.train_loader()))
        assert (batch.caption_input.pixels is None) == cached
        loss = model.losses(batch)["loss"]
        loss.backward()
        losses.append(loss.item())
        trained = [weight for weight in backbone.parameters() if weight.requires_grad]
        gradients.append(torch.cat([weight.grad.flatten() for weight in trained]))
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.98


def test_one_store_serves_both_tasks_below_trained_layers(config) -> None:
    config.model.backbone = BackboneConfig(name="mobilenetv3_small_050", weights="none", trainable=1)
    data = DataModule(config, Backbone(config.model.backbone), progress=False)
    data.fill_cache()
    (grids,), (levels,) = data.cache.stores["grid"], data.cache.stores["levels"]
    assert grids.folder == levels.folder
    samples = data.parts["train"] + data.parts["val"]
    assert len(grids) == len(samples)
