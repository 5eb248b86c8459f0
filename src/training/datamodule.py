"""A run's data: sources are read, split, tokenized, cached and batched."""

import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.config.schema import Config
from src.data import transforms
from src.data.dataloader import ResumableDataLoader, warn_unreadable_images
from src.data.dataset import ImageDataset, InputOptions
from src.data.feature_store import FeatureKind
from src.data.fingerprint import hash_data
from src.data.formats.base import source_name
from src.data.image_hashes import hash_images
from src.data.image_io import ImageError, load_image
from src.data.labels import has_label, labelled_split, require_labels, train_tokenizer
from src.data.sample import Sample
from src.data.sampler import EvalBatchSampler, TrainBatchSampler
from src.data.source_mixture import SourceMixture
from src.data.sources import challenge_sources, official_splits, pseudo_sources, read_sources
from src.data.split import split_images
from src.data.tokenizer import Tokenizer
from src.inference.feature_extractor import CacheResult
from src.inference.feature_passes import FeatureCache, feature_passes
from src.inference.shifted_split import ensure_shifted_splits
from src.models.backbones.base import Backbone, make_mos_backbones, resolve_backbone
from src.models.multitask import MultitaskModel
from src.training.data_summary import commonest_caption, mos_summary

SCALE_CACHED = 5000  # images, enough for the mean and deviation of level statistics, from the cache
SCALE_LIVE = 256  # likewise, where the backbone has to run for them
SCALE_ROWS = 64  # images whose level statistics a trained backbone computes at once


class DataModule:
    """The images of a config, in parts, as batches.

    Attributes:
        config: the run's.
        parts: samples of train, val and test that have a label of one of the model's heads.
        tokenizer: trained on the training captions, or as given.
        mos_backbones: the networks of model.mos.backbones, where features come from the cache.
        data_hash: of every image's name, labels and part.
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
        """Reads and splits; features are computed when a part is first used.

        Args:
            config: the run's.
            backbone: for the feature cache; None: images are read live.
            tokenizer: of a trained model; None: one is trained.
            rank: of this process.
            world: how many processes train together.
            progress: show bars.

        Raises:
            UserError: the data cannot be read or split, or a head has no label to learn from.
        """
        self.config, self.backbone, self.progress = config, backbone, progress
        self.mos_backbones = (
            make_mos_backbones(backbone, config.model.mos.backbones) if self.cached and backbone is not None else []
        )
        self.rank, self.world = rank, world
        self.styles = {source_name(source): source.style or source_name(source) for source in config.data.sources}
        ensure_shifted_splits(config, backbone)  # type: ignore[arg-type]
        samples = read_sources(config.data)
        split = split_images(samples, config.data, official_splits(config.data))
        self.parts = labelled_split(samples, split, config)
        if not self.parts["train"]:
            raise UserError("no training photo carries a label that the model learns; check data.sources and the split")
        require_labels(self.parts["train"], config.model)
        self.tokenizer = tokenizer or train_tokenizer(self.people_labelled(), config)
        self.data_hash = hash_data(samples, split, config.data)
        self._datasets: dict[str, ImageDataset] = {}
        if self.cached and config.data.augment_captions:
            warnings.warn("data.augment_captions changes live photos only: set data.cache to false", stacklevel=2)

    @property
    def cached(self) -> bool:
        """Whether features come from the cache: a backbone was given, and the config says so."""
        return self.backbone is not None and self.config.data.cache and self.config.model.backbone.cacheable

    def train_loader(self) -> ResumableDataLoader:
        """Training batches, shuffled and mixed by shares, in a new order in every epoch."""
        images = self.dataset("train")
        names = list(self.styles)
        shares = [source.share for source in self.config.data.sources]
        sources = np.full(len(images), -1)  # that of an image without a label to learn
        learned = images.labelled()
        sources[learned] = [names.index(images.sources[i]) for i in learned]
        mixture = SourceMixture(sources, shares, self.config.train.seed)
        batches = TrainBatchSampler(mixture, self.config.train.batch, self.rank, self.world)
        return ResumableDataLoader(images, batches, self.config.data.workers)

    def val_loader(self, most: int = 0) -> ResumableDataLoader:
        """The validation images in their order, with references; `most` of them, evenly spaced, or all (0)."""
        return self.loader("val", most)

    def loader(self, part: str, most: int = 0) -> ResumableDataLoader:
        """The images of val or test in their order; each task gets those with its label."""
        images = self.dataset(part)
        size = -(-self.config.train.batch // self.world)
        batches = EvalBatchSampler(len(images), size, self.rank, self.world, most)
        return ResumableDataLoader(images, batches, self.config.data.workers)

    def dataset(self, part: str) -> ImageDataset:
        """The data set of a part; missing features are computed now, and images without features are left out.

        Raises:
            UserError: the part is empty, or none of its images can be read.
        """
        if not self.parts[part]:
            raise UserError(f"the split has no labelled {part} photos: set data.{part}, or choose another part")
        if part not in self._datasets:
            self._datasets[part] = self._make_dataset(part)
        return self._datasets[part]

    def fill_cache(self, parts: Sequence[str] = ("train", "val")) -> CacheResult:
        """Computes the features that the cache lacks for some parts: each head's, of the images with its label."""
        if not self.cached or self.backbone is None:
            raise UserError("data.cache is false, or the backbone is trained: there is nothing to compute")
        model, cache = self.config.model, self.cache
        samples = [sample for part in parts for sample in self.parts[part]]
        pairs = list(zip(samples, self._hashes(samples), strict=True))
        files: dict[FeatureKind, dict[str, Path]] = {
            kind: {digest: sample.path for sample, digest in pairs if digest and has_label(sample, kind, model)}
            for kind in cache.stores
        }
        result = cache.fill(files, self.progress)
        result.failed |= {sample.path: "is missing, or cannot be read" for sample, digest in pairs if not digest}
        return result

    def fit_scale(self, model: MultitaskModel) -> None:
        """Passes the mos of all training images, and the level statistics of many, to the model."""
        images = self.dataset("train")
        rated = np.flatnonzero(~np.isnan(images.mos))
        if not self.config.model.mos.enabled or not len(rated):
            return
        if images.levels:
            some = rated[:: -(-len(rated) // SCALE_CACHED)]
            levels = self._finished_levels(images.levels.read(some[images.levels.known[some]]))
        else:
            levels = self._live_levels([images.paths[i] for i in rated[:: -(-len(rated) // SCALE_LIVE)]])
        model.fit_scale(levels, torch.from_numpy(images.mos[rated]))

    def mos_views(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Cached level statistics [n, views, L] of the training images with mos, mirrored too, mos [n], and weights."""
        images = self.dataset("train")
        if images.levels is None:
            raise UserError("model.mos.kind: this kind reads the feature store; set data.cache true")
        rated = np.flatnonzero(~np.isnan(images.mos) & images.levels.known)
        weight = None if images.weights is None else images.weights[rated]
        return images.levels.read_views(rated, "levels"), torch.from_numpy(images.mos[rated]), weight

    def people_labelled(self) -> list[Sample]:
        """The training images but for those that a model labelled; all where people labelled none."""
        pseudo = pseudo_sources(self.config.data.sources)
        return [sample for sample in self.parts["train"] if sample.source not in pseudo] or self.parts["train"]

    def meta(self) -> dict[str, Any]:
        """The facts of the data for the model folder.

        mos_summary's; comment, the commonest training caption of the data sets whose format writes comments, else of
        all; comments, that of each style; data_hash; photos in each part.
        """
        challenge = [self.styles[source_name(s)] for s in challenge_sources(self.config.data.sources)]
        return {
            **mos_summary(self.people_labelled()),
            "comment": self._commonest(challenge) or self._commonest(self.tokenizer.styles),
            "comments": {style: self._commonest([style]) for style in self.tokenizer.styles},
            "data_hash": self.data_hash,
            "photos": {part: len(samples) for part, samples in self.parts.items()},
        }

    @cached_property
    def cache(self) -> FeatureCache:
        """The cache's stores for each head."""
        return FeatureCache(self.config.data, [self.backbone, *self.mos_backbones], feature_passes(self.config))

    def _hashes(self, samples: Sequence[Sample]) -> list[str | None]:
        return hash_images([sample.path for sample in samples], Path(self.config.data.split_dir))

    def _make_dataset(self, part: str) -> ImageDataset:
        samples, model = self.parts[part], self.config.model
        options = InputOptions.of(self.config, training=part == "train", labelled=True)
        if not self.cached:
            weights = self._weights(samples, part)
            return ImageDataset(samples, self.tokenizer, self._styles(samples), options, weights=weights)
        self.fill_cache([part] if part == "test" else ["train", "val"])
        features = self.cache.find(self._hashes(samples))
        known = {kind: cached.known for kind, cached in features.items()}
        cached = [
            any(known[kind][i] for kind in known if has_label(sample, kind, model)) for i, sample in enumerate(samples)
        ]
        lost = [sample.name for sample, ok in zip(samples, cached, strict=True) if not ok]
        if lost:
            warn_unreadable_images(lost, len(samples), part)
        samples = [sample for sample, ok in zip(samples, cached, strict=True) if ok]
        if not samples:
            raise UserError(f"none of the {part} photos can be read, {lost[0]} for one; check the sources' paths")
        levels, grid = (
            features[kind].select(np.array(cached)) if kind in features else None for kind in ("levels", "grid")
        )
        styles, weights = self._styles(samples), self._weights(samples, part)
        return ImageDataset(samples, self.tokenizer, styles, options, levels, grid, weights)

    def _styles(self, samples: Sequence[Sample]) -> list[str]:
        return [self.styles[sample.source] for sample in samples]

    def _weights(self, samples: Sequence[Sample], part: str) -> list[float] | None:
        """The factor on each training image's losses; None where all are 1."""
        weights = {source_name(source): source.weight for source in self.config.data.sources}
        if part != "train" or set(weights.values()) == {1.0}:
            return None
        return [weights[sample.source] for sample in samples]

    def _finished_levels(self, stored: Tensor) -> Tensor:
        """[R, L] from rows of the store."""
        with torch.inference_mode():
            parts = [self.backbone.finish_levels(rows) for rows in stored.split(SCALE_ROWS)]  # type: ignore[operator, union-attr]
        return torch.cat(parts)

    def _live_levels(self, paths: Sequence[Path]) -> Tensor:
        """[R, L] of the images that can be read."""
        if self.backbone is None:
            raise UserError("the mos head's scales need a backbone")
        levels = []
        with torch.inference_mode():
            for path in paths:
                with suppress(ImageError):  # training leaves it out too, with a warning
                    image = transforms.resize_for_task(load_image(path), self.config.data.mos_size)
                    levels.append(self.backbone.levels(transforms.stack_images([image])))  # type: ignore[operator]
        if not levels:
            raise UserError(f"none of the train photos can be read, {paths[0]} for one; check the sources' paths")
        return torch.cat(levels)

    def _commonest(self, styles: Sequence[str]) -> str:
        """The commonest training caption of some styles; empty without any."""
        train = [sample for sample in self.people_labelled() if self.styles[sample.source] in styles]
        captions = [text for sample in train for text in sample.captions]
        return commonest_caption(captions, self.tokenizer, styles[0]) if captions else ""


def build_feature_store(config: Config) -> CacheResult:
    """Computes the features that a config's training and validation need; names images without on stderr.

    Raises:
        UserError: the data, the weights or all images cannot be read, the cache is off, or the disk is too small.
    """
    config = resolve_backbone(config)
    data = DataModule(config, Backbone(config.model.backbone))
    result = data.fill_cache()
    paths = {sample.path for part in ("train", "val") for sample in data.parts[part]}
    if result.failed.keys() >= paths:
        path, reason = next(iter(result.failed.items()))
        example = f"{path} ({reason})"
        raise UserError(f"none of {len(paths):,} photos can be read, {example} for one; check the sources' paths")
    for path, reason in list(result.failed.items())[:5]:
        print(f"left out: {path}: {reason}", file=sys.stderr)
    return result
