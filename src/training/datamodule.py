"""A run's data: sources read, split, tokenized, cached and handed out in batches."""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.config.schema import Config
from src.data import transforms
from src.data.dataloader import ResumableDataLoader, warn_unreadable_images
from src.data.dataset import CachedFeatures, ImageDataset, InputOptions
from src.data.feature_store import FeatureKind, FeatureSpec, FeatureStore
from src.data.formats.base import source_name
from src.data.image_hashes import hash_images
from src.data.image_io import ImageError, load_image
from src.data.labels import has_label, labelled_split, require_labels, train_tokenizer
from src.data.sample import Sample
from src.data.sampler import EvalBatchSampler, SourceMixture, TrainBatchSampler
from src.data.sources import challenge_sources, official_splits, read_sources
from src.data.split import split_images
from src.data.tokenizer import Tokenizer, normalize_caption
from src.inference.feature_extractor import CacheRequest, CacheResult, fill_feature_stores

SCALE_PHOTOS = 5000  # enough for the mean and deviation of level statistics, from the cache
SCALE_LIVE = 256  # likewise, where the backbone has to run for them


class ScalableModel(Protocol):
    """A model whose mos head takes its scales from training photos."""

    def fit_scale(self, levels: Tensor, mos: Tensor) -> None:
        """Takes levels [R, L] and mos [R]."""


class DataModule:
    """The photos of a config, in parts, as batches.

    Attributes:
        config: the run's.
        parts: samples of train, val and test that carry a label which the model learns.
        tokenizer: trained on the training captions, or as given.
        data_hash: of every photo's name, labels and part.
    """

    def __init__(
        self,
        config: Config,
        backbone: nn.Module | None = None,
        tokenizer: Tokenizer | None = None,
        rank: int = 0,
        world: int = 1,
        progress: bool = True,
    ) -> None:
        """Reads and splits; features are computed when a part is first asked for.

        Args:
            config: the run's.
            backbone: frozen, for the feature cache; None: photos are seen live.
            tokenizer: of a trained model; None: one is trained.
            rank: of this process.
            world: how many processes train together.
            progress: show bars.

        Raises:
            UserError: the data cannot be read or split, or there is nothing to learn from, for all heads or for one.
        """
        self.config, self.backbone, self.progress = config, backbone, progress
        self.rank, self.world = rank, world
        self.styles = {source_name(source): source.style or source_name(source) for source in config.data.sources}
        samples = read_sources(config.data)
        split = split_images(samples, config.data, official_splits(config.data))
        self.parts = labelled_split(samples, split, config.model)
        if not self.parts["train"]:
            raise UserError("no training photo carries a label that the model learns; check data.sources and the split")
        require_labels(self.parts["train"], config.model)
        self.tokenizer = tokenizer or train_tokenizer(self.parts["train"], config)
        self.data_hash = _hash(samples, split)
        self._photos: dict[str, ImageDataset] = {}
        if self.cached and config.data.augment_captions:
            warnings.warn("data.augment_captions changes live photos only: set data.cache to false", stacklevel=2)

    @property
    def cached(self) -> bool:
        """Whether features come from the cache: a frozen backbone was given, and the config says so."""
        return self.backbone is not None and self.config.data.cache and self.config.model.backbone.frozen

    def train_loader(self) -> ResumableDataLoader:
        """Shuffled, mixed by shares; drawn anew in every epoch."""
        photos = self.photos("train")
        names = list(self.styles)
        shares = [source.share for source in self.config.data.sources]
        mixture = SourceMixture([names.index(source) for source in photos.sources], shares, self.config.train.seed)
        batches = TrainBatchSampler(mixture, self.config.train.batch_size, self.rank, self.world)
        return ResumableDataLoader(photos, batches, self.config.data.workers)

    def val_loader(self, most: int = 0) -> ResumableDataLoader:
        """The validation photos in their order, with references; `most` of them, evenly spaced, or all (0)."""
        return self.loader("val", most)

    def test_loader(self) -> ResumableDataLoader:
        """The test photos in their order, with references."""
        return self.loader("test")

    def loader(self, part: str, most: int = 0) -> ResumableDataLoader:
        """The photos of val or test in their order, each task seeing those with its label."""
        photos = self.photos(part)
        size = -(-self.config.train.batch_size // self.world)
        batches = EvalBatchSampler(len(photos), size, self.rank, self.world, most)
        return ResumableDataLoader(photos, batches, self.config.data.workers)

    def photos(self, part: str) -> ImageDataset:
        """The data set of a part; missing features are computed now, and photos that have none are left out.

        Raises:
            UserError: the part is empty, or none of its photos can be read.
        """
        if not self.parts[part]:
            raise UserError(f"the split has no labelled {part} photos: set data.{part}, or choose another part")
        if part not in self._photos:
            self._photos[part] = self._make_photos(part)
        return self._photos[part]

    def build(self, parts: Sequence[str] = ("train", "val")) -> CacheResult:
        """Computes what the feature cache lacks for some parts: what the heads need of photos with their label."""
        if not self.cached or self.backbone is None:
            raise UserError("data.cache is false, or the backbone is trained: there is nothing to compute")
        model = self.config.model
        samples = [sample for part in parts for sample in self.parts[part]]
        pairs = list(zip(samples, self._hashes(samples), strict=True))
        wants = [
            CacheRequest(
                store, {digest: sample.path for sample, digest in pairs if digest and has_label(sample, kind, model)}
            )
            for kind, store in self.stores.items()
        ]
        home = next(self.backbone.parameters()).device
        try:
            built = fill_feature_stores(
                self.backbone.to("cuda" if torch.cuda.is_available() else home), wants, self.progress
            )
        finally:
            self.backbone.to(home)
        built.failed |= {sample.path: "is missing, or cannot be read" for sample, digest in pairs if not digest}
        return built

    def fit_scale(self, model: ScalableModel) -> None:
        """Hands the model the mos of all training photos, and the level statistics of many."""
        photos = self.photos("train")
        rated = np.flatnonzero(~np.isnan(photos.mos))
        if not self.config.model.mos.enabled or not len(rated):
            return
        if photos.levels:
            some = photos.levels.rows[rated[:: -(-len(rated) // SCALE_PHOTOS)]]
            levels = photos.levels.store.read(some[some >= 0])
        else:
            levels = self._live_levels([photos.paths[i] for i in rated[:: -(-len(rated) // SCALE_LIVE)]])
        model.fit_scale(levels, torch.from_numpy(photos.mos[rated]))

    def meta(self) -> dict[str, Any]:
        """What a model folder keeps of its data.

        mos_mean, mos_std, mos_range [lowest, highest] and mos_percentiles (0 to 100) of training; comment, the
        commonest in training (the challenge's, where there are), and comments, that of each style; data_hash; photos
        in each part.
        """
        train = self.parts["train"]
        mos = np.array([sample.mos for sample in train if sample.mos is not None])
        comments = {style: self._commonest([style]) for style in self.tokenizer.styles}
        challenge = [self.styles[source_name(s)] for s in challenge_sources(self.config.data.sources)]
        return {
            "mos_mean": float(mos.mean()) if len(mos) else None,
            "mos_std": float(mos.std()) if len(mos) else None,
            "mos_range": [float(mos.min()), float(mos.max())] if len(mos) else None,
            "mos_percentiles": np.percentile(mos, range(101)).round(4).tolist() if len(mos) else None,
            "comment": self._commonest(challenge) or self._commonest(self.tokenizer.styles),
            "comments": comments,
            "data_hash": self.data_hash,
            "photos": {part: len(samples) for part, samples in self.parts.items()},
        }

    @cached_property
    def stores(self) -> dict[str, FeatureStore]:
        """The cache's store for each head, by kind of feature."""
        data, model = self.config.data, self.config.model
        sizes: dict[FeatureKind, int] = {}
        if model.mos.enabled:
            sizes["levels"] = data.mos_size
        if model.decoder.enabled:
            sizes["grid"] = data.caption_size
        prints = {kind: self.backbone.fingerprint(kind) if self.backbone else "" for kind in sizes}  # type: ignore[operator]
        return {
            kind: FeatureStore(data.cache_dir, FeatureSpec(kind, prints[kind], size, data.flip))
            for kind, size in sizes.items()
        }

    def _hashes(self, samples: Sequence[Sample]) -> list[str | None]:
        return hash_images([sample.path for sample in samples], Path(self.config.data.split_dir))

    def _make_photos(self, part: str) -> ImageDataset:
        samples, model = self.parts[part], self.config.model
        look = InputOptions.of(self.config, training=part == "train", labelled=True)
        if not self.cached:
            return ImageDataset(samples, self.tokenizer, self._styles(samples), look)
        self.build([part] if part == "test" else ["train", "val"])
        hashes = [digest or "" for digest in self._hashes(samples)]
        rows = {kind: store.rows(hashes) for kind, store in self.stores.items()}
        there = [
            any(rows[kind][i] >= 0 for kind in rows if has_label(sample, kind, model))
            for i, sample in enumerate(samples)
        ]
        lost = [sample.name for sample, found in zip(samples, there, strict=True) if not found]
        if lost:
            warn_unreadable_images(lost, len(samples), part)
        samples = [sample for sample, found in zip(samples, there, strict=True) if found]
        if not samples:
            raise UserError(f"none of the {part} photos can be read, {lost[0]} for one; check the sources' paths")
        kept = {kind: CachedFeatures(self.stores[kind], rows[kind][there]) for kind in rows}
        return ImageDataset(samples, self.tokenizer, self._styles(samples), look, kept.get("levels"), kept.get("grid"))

    def _styles(self, samples: Sequence[Sample]) -> list[str]:
        return [self.styles[sample.source] for sample in samples]

    def _live_levels(self, paths: Sequence[Path]) -> Tensor:
        """[R, L] of photos that can be read."""
        if self.backbone is None:
            raise UserError("the mos head's scales need a backbone")
        levels = []
        with torch.inference_mode():
            for path in paths:
                try:
                    pixels = transforms.stack_images(
                        [transforms.resize_for_task(load_image(path), self.config.data.mos_size)]
                    )
                except ImageError:
                    continue  # training drops it too, and says so
                levels.append(self.backbone.levels(pixels))  # type: ignore[operator]
        if not levels:
            raise UserError(f"none of the train photos can be read, {paths[0]} for one; check the sources' paths")
        return torch.cat(levels)

    def _commonest(self, styles: Sequence[str]) -> str:
        """The commonest training caption of some styles, as the model would write it; empty without any."""
        counts = Counter(
            normalize_caption(text)
            for s in self.parts["train"]
            if self.styles[s.source] in styles
            for text in s.captions
        )
        if not counts:
            return ""
        found = min(counts, key=lambda text: (-counts[text], text))
        return self.tokenizer.decode(self.tokenizer.encode(found, styles[0]))


def build_feature_store(config: Config) -> CacheResult:
    """Computes the features that a config's training and validation need.

    Raises:
        UserError: the data, the weights or all photos cannot be read, the cache is off, or the disk is too small.
    """
    from src.models.backbones.base import Backbone, resolve_image_sizes

    config = resolve_image_sizes(config)
    data = DataModule(config, Backbone(config.model.backbone))
    built = data.build()
    paths = {sample.path for part in ("train", "val") for sample in data.parts[part]}
    if built.failed.keys() >= paths:
        path, reason = next(iter(built.failed.items()))
        raise UserError(
            f"none of {len(paths):,} photos can be read, {path} ({reason}) for one; check the sources' paths"
        )
    return built


def _hash(samples: Sequence[Sample], split: Mapping[tuple[str, str], str]) -> str:
    """SHA-256 over the photos in their order: source, name, labels and part."""
    digest = hashlib.sha256()
    for s in samples:
        digest.update(json.dumps([s.source, s.name, s.mos, s.captions, split.get((s.source, s.name))]).encode())
    return digest.hexdigest()
