"""Images as features that a model's heads read: of files or of images in memory, or from the feature cache.

Held by tests/inference/test_predict_submission.py and tests/inference/test_feature_extractor.py.

Notation: R images of a batch that could be read, views an image and its mirror image, and with model.mos.views
their tiles and scales, N places of the grid,
C channels, L level statistics.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.config.schema import Config
from src.data.batch import Batch, TaskInput
from src.data.feature_store import FeatureKind
from src.data.image_hashes import hash_image, hash_images
from src.data.image_io import ImageError, check_image, load_image
from src.data.sample import Sample
from src.data.transforms import cut_tiles, resize_for_task
from src.inference.caption_style import style_token
from src.inference.engine import Engine, TorchEngine
from src.inference.feature_passes import FeatureCache
from src.inference.predict_options import PredictOptions
from src.inference.prefetch import prefetch
from src.models.model_folder import ModelDescription

ImageViews = dict[int, np.ndarray]
"""One image at several sizes: size -> [H, W, 3] uint8 RGB."""


@dataclass
class FeatureBatch:
    """A batch of images as features.

    Attributes:
        samples: B images.
        failed: why an image could not be read, by its row.
        rows: the images that `features` are of, by kind.
        features: grid [R, views, N, C] and levels [R, views, L].
        hashes: SHA-256 of images given as bytes; empty: the samples have files.
    """

    samples: list[Sample]
    failed: dict[int, str]
    rows: dict[FeatureKind, list[int]] = field(default_factory=dict)
    features: dict[FeatureKind, Tensor] = field(default_factory=dict)
    hashes: list[str] = field(default_factory=list)

    def grid_hashes(self) -> list[str | None]:
        """SHA-256 of the images that have a grid; None where a file cannot be read."""
        rows = self.rows.get("grid", [])
        return [self.hashes[row] if self.hashes else hash_image(str(self.samples[row].path)) for row in rows]

    def without_grid(self) -> "FeatureBatch":
        """The batch without the captions' features."""
        return replace(self, features={kind: x for kind, x in self.features.items() if kind != "grid"})

    def reasons(self) -> dict[str, str]:
        """Why images could not be read, by name."""
        return {self.samples[i].name: f"{self.samples[i].path} {reason}" for i, reason in self.failed.items()}


def live_features(engine: Engine, samples: Sequence[Sample], options: PredictOptions) -> Iterator[FeatureBatch]:
    """Batches of files through the backbone; while one is in work, the next one is decoded."""
    passes = engine.passes(options)

    def load(sample: Sample) -> ImageViews | str:
        needed = {item.size for item in passes if any(options.needs(sample, kind) for kind in item.kinds)}
        try:
            return resize_views(load_image(sample.path), needed) if needed else {}
        except ImageError as error:
            return error.reason

    stream = prefetch(load, samples, options.batch_size + 1)
    while chunk := list(islice(stream, options.batch_size)):
        yield extract_features(engine, [sample for sample, _ in chunk], [views for _, views in chunk], options)


def resize_views(image: np.ndarray, sizes: Iterable[int]) -> ImageViews:
    """An image [H, W, 3] at each of the sizes."""
    return {size: resize_for_task(image, size) for size in sizes}


def extract_features(
    engine: Engine, samples: list[Sample], images: Sequence[ImageViews | str], options: PredictOptions
) -> FeatureBatch:
    """A batch of decoded images through the networks.

    Args:
        engine: computes the features.
        samples: B images.
        images: each at the sizes that the heads need, or why it could not be read.
        options: how images are predicted.
    """
    batch = FeatureBatch(samples, {i: views for i, views in enumerate(images) if isinstance(views, str)})
    parts: dict[FeatureKind, dict[int, list[Tensor]]] = {}
    for item in engine.passes(options):
        views = {
            i: views[item.size] for i, views in enumerate(images) if isinstance(views, dict) and item.size in views
        }
        tiles = [tile for image in views.values() for tile in cut_tiles(image, item.tiles, item.overlap)]
        for kind, values in engine.features(tiles, item).items():
            needed = [options.needs(samples[i], kind) for i in views]
            batch.rows[kind] = [i for i, need in zip(views, needed, strict=True) if need]
            values = values.unflatten(0, (len(views), -1)).flatten(1, 2)  # tiles and mirror images are views alike
            parts.setdefault(kind, {}).setdefault(item.view, []).append(values[torch.tensor(needed)])
    batch.features = {
        kind: torch.cat([torch.cat(passes, dim=-1) for passes in scales.values()], dim=1)
        for kind, scales in parts.items()
    }
    return batch


def cached_features(
    engine: TorchEngine, config: Config, samples: Sequence[Sample], options: PredictOptions
) -> Iterator[FeatureBatch]:
    """Batches of features from the feature cache; missing ones are computed first."""
    cache = FeatureCache(config.data, engine.model.networks, engine.passes(options))
    hashes = hash_images([sample.path for sample in samples], Path(config.data.split_dir))
    pairs = [(digest, sample) for digest, sample in zip(hashes, samples, strict=True) if digest]
    files = {kind: {digest: s.path for digest, s in pairs if options.needs(s, kind)} for kind in cache.stores}
    cache.fill(files, options.progress)
    features = cache.find(hashes)
    for start in range(0, len(samples), options.batch_size):
        batch = FeatureBatch(list(samples[start : start + options.batch_size]), {})
        for kind, cached in features.items():
            known = cached.known[start : start + options.batch_size]
            needed = [i for i, sample in enumerate(batch.samples) if options.needs(sample, kind)]
            missing = [i for i in needed if not known[i]]
            batch.failed |= {i: check_image(batch.samples[i].path) or "was changed meanwhile" for i in missing}
            if stored := [i for i in needed if known[i]]:
                batch.rows[kind], batch.features[kind] = (
                    stored,
                    engine.finish(kind, cached.read_views(np.array(stored) + start, kind)),
                )
        yield batch


def make_batch(description: ModelDescription, features: FeatureBatch, options: PredictOptions) -> Batch:
    """A batch for an engine: all views of the level statistics [R, views, L], the first view of the grid [R, N, C].

    Raises:
        UserError: the model does not know the style, or an image's style cannot be told.
    """
    samples, captions = features.samples, description.config.model.decoder.enabled and options.captions
    styles = [style_token(description, options.style, sample.source) if captions else 0 for sample in samples]
    return Batch(
        names=[sample.name for sample in samples],
        sources=[sample.source for sample in samples],
        style=torch.tensor(styles),
        mos=torch.tensor([math.nan if sample.mos is None else sample.mos for sample in samples]),
        tokens=torch.zeros(len(samples), 0, 0, dtype=torch.int64),
        mos_input=task_input(features, "levels"),
        caption_input=task_input(features, "grid"),
        references=[list(sample.captions) for sample in samples],
    )


def task_input(features: FeatureBatch, kind: FeatureKind) -> TaskInput | None:
    """The features of a kind that a head reads; None without such."""
    if kind not in features.features:
        return None
    rows, values = torch.tensor(features.rows[kind], dtype=torch.int64), features.features[kind]
    return TaskInput(rows, features=values if kind == "levels" else values[:, 0])
