"""A model's answers for photos of any number: in batches, decoded ahead, live or from the feature cache.

Notation: R photos of a batch that could be read, views 1 or 2 (the photo and its mirror image), N places of the grid,
C channels, L level statistics.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from math import prod
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from src.common.device import best_device, resolve_precision
from src.common.errors import UserError
from src.config.schema import Config, GenerationConfig
from src.data import transforms
from src.data.batch import Batch, TaskInput
from src.data.feature_store import FeatureKind, FeatureSpec, FeatureStore
from src.data.formats.base import source_name
from src.data.image_hashes import hash_images
from src.data.image_io import ImageError, check_image, load_image
from src.data.sample import Sample
from src.data.sources import challenge_sources
from src.inference.feature_extractor import CacheRequest, FeatureExtractor, fill_feature_stores
from src.inference.predictions import Predictions, predict_batch
from src.models.model_folder import LoadedModel, ModelDescription


@dataclass
class PredictOptions:
    """How photos are answered.

    Attributes:
        generation: how captions are written.
        style: the caption style of all photos; empty: that of each photo's own source.
        batch_size: photos at a time.
        cache: take features from the feature cache, and fill it.
        labelled: answer only for what a photo has a label to hold against.
        mos: answer with mos, where the model has that head.
        captions: answer with captions, where the model has that head.
        progress: show a bar.
    """

    generation: GenerationConfig
    style: str = ""
    batch_size: int = 32
    cache: bool = False
    labelled: bool = False
    mos: bool = True
    captions: bool = True
    progress: bool = True


@dataclass
class FeatureBatch:
    """A batch of photos as features.

    Attributes:
        samples: B photos.
        failed: why a photo could not be read, by its row.
        rows: which photos `features` are of, by kind.
        features: grid [R, views, N, C] and levels [R, views, L].
    """

    samples: list[Sample]
    failed: dict[int, str]
    rows: dict[FeatureKind, list[int]] = field(default_factory=dict)
    features: dict[FeatureKind, Tensor] = field(default_factory=dict)

    def reasons(self) -> dict[str, str]:
        """Why photos could not be read, by name."""
        return {self.samples[i].name: f"{self.samples[i].path} {why}" for i, why in self.failed.items()}


def predict_images(
    loaded: LoadedModel, samples: Sequence[Sample], settings: PredictOptions
) -> tuple[Predictions, dict[str, str]]:
    """mos (mean over the photo and, if config.data.flip, its mirror image) and captions, in the samples' order.

    Returns:
        The answers; mos NaN or caption empty where the model has no such head or the photo could not be read, and, by
        name, why.

    Raises:
        UserError: the model knows no style of that name.
    """
    device = best_device()
    loaded.model.to(device).eval()
    parts: list[Predictions] = []
    failed: dict[str, str] = {}
    with (
        torch.inference_mode(),
        tqdm(total=len(samples), desc="answering", unit="photo", disable=not settings.progress) as bar,
    ):
        for seen in extract_features(loaded, samples, settings):
            parts.append(predict_features(loaded, seen, settings, device))
            failed |= seen.reasons()
            bar.update(len(seen.samples))
    return Predictions.join(parts), failed


def predict_features(
    loaded: LoadedModel, seen: FeatureBatch, settings: PredictOptions, device: torch.device
) -> Predictions:
    """Answers for a batch; `device` is where the model's weights are."""
    batch = features_to_batch(loaded, seen, settings).to(device)
    answers = predict_batch(loaded.model, batch, settings.generation, loaded.tokenizer)
    answers.mos_true = [_number(sample.mos) for sample in seen.samples]  # as written, not rounded to float32
    if batch.quality is not None and seen.features["levels"].shape[1] > 1:
        mirrored = TaskInput(batch.quality.rows, features=seen.features["levels"][:, 1].to(device))
        mos, _ = loaded.model.predict(replace(batch, quality=mirrored, captioning=None), settings.generation)
        pairs = zip(answers.mos, mos.float().tolist(), strict=True)
        answers.mos = [(one + other) / 2 for one, other in pairs]
    return answers


def features_to_batch(loaded: LoadedModel, seen: FeatureBatch, settings: PredictOptions) -> Batch:
    """Photos as a batch of features: view 0, the photo itself."""
    samples = seen.samples
    rows = {kind: torch.tensor(places, dtype=torch.int64) for kind, places in seen.rows.items()}
    views = {kind: TaskInput(rows[kind], features=x[:, 0]) for kind, x in seen.features.items()}
    return Batch(
        names=[sample.name for sample in samples],
        sources=[sample.source for sample in samples],
        style=torch.tensor([_style(loaded, sample, settings) for sample in samples]),
        mos=torch.tensor([_number(sample.mos) for sample in samples]),
        tokens=torch.zeros(len(samples), 0, 0, dtype=torch.int64),
        quality=views.get("levels"),
        captioning=views.get("grid"),
        references=[list(sample.captions) for sample in samples],
    )


def _number(mos: float | None) -> float:
    return math.nan if mos is None else mos


def _style(loaded: LoadedModel, sample: Sample, settings: PredictOptions) -> int:
    if not (loaded.config.model.decoder.enabled and settings.captions):
        return 0
    name = settings.style or source_style(loaded.config, sample.source)
    return loaded.tokenizer.style(name if settings.style or name in known_styles(loaded) else default_style(loaded))


def source_style(config: Config, source: str) -> str:
    """The caption style that a data set trains."""
    return next((one.style or source for one in config.data.sources if source_name(one) == source), source)


def known_styles(loaded: ModelDescription) -> list[str]:
    """The styles that the model has seen captions of; a source without captions has a token that was never trained."""
    seen = loaded.meta.get("comments", {})
    return [style for style in loaded.tokenizer.styles if seen.get(style, True)]


def check_style(loaded: ModelDescription, style: str) -> None:
    """Raises UserError, naming the styles there are, where the model has seen no captions of one."""
    if style not in (known := known_styles(loaded)):
        raise UserError(f"--style {style}: this model knows {', '.join(known)}; choose one of these")


def default_style(loaded: ModelDescription) -> str:
    """The style of the challenge's comments where the model knows it, else the only one.

    Raises:
        UserError: there are several others; names them.
    """
    known = known_styles(loaded)
    sources = challenge_sources(loaded.config.data.sources)
    challenge = [source_style(loaded.config, source_name(source)) for source in sources]
    found = [style for style in challenge if style in known] or known
    if len(found) != 1 and found is known:
        raise UserError(f"--style: choose the style of the captions; this model knows {', '.join(known)}")
    return found[0]


def feature_sizes(config: Config, settings: PredictOptions) -> dict[int, list[FeatureKind]]:
    """Which features are wanted of which photo size; each size is one pass through the backbone."""
    wanted: dict[int, list[FeatureKind]] = {}
    if config.model.mos.enabled and settings.mos:
        wanted.setdefault(config.data.mos_size, []).append("levels")
    if config.model.decoder.enabled and settings.captions:
        wanted.setdefault(config.data.caption_size, []).append("grid")
    return wanted


def needs_feature(sample: Sample, kind: FeatureKind, settings: PredictOptions) -> bool:
    """Whether a photo is to be answered by the head that sees features of a kind."""
    return not settings.labelled or (sample.mos is not None if kind == "levels" else bool(sample.captions))


def extract_features(
    loaded: LoadedModel, samples: Sequence[Sample], settings: PredictOptions
) -> Iterator[FeatureBatch]:
    """Batches of photos, in their order, as the features that the model's heads want."""
    return (extract_cached if settings.cache else extract_live)(loaded, samples, settings)


def extract_live(loaded: LoadedModel, samples: Sequence[Sample], settings: PredictOptions) -> Iterator[FeatureBatch]:
    """Batches of photos through the backbone, the next ones being decoded meanwhile."""
    wanted = feature_sizes(loaded.config, settings)
    runners = {size: make_extractor(loaded, size, kinds) for size, kinds in wanted.items()}
    for chunk in decode_ahead(samples, wanted, settings):
        seen = FeatureBatch([sample for sample, _ in chunk], {})
        for size in wanted:
            photos = {i: views[size] for i, (_, views) in enumerate(chunk) if isinstance(views, dict) and size in views}
            for kind, values in extract_by_shape(runners[size], list(photos.values())).items():
                places = [at for at, i in enumerate(photos) if needs_feature(seen.samples[i], kind, settings)]
                seen.rows[kind] = [i for i in photos if needs_feature(seen.samples[i], kind, settings)]
                seen.features[kind] = values[places]
        seen.failed = {i: views for i, (_, views) in enumerate(chunk) if isinstance(views, str)}
        yield seen


def make_extractor(loaded: LoadedModel, size: int, kinds: list[FeatureKind]) -> FeatureExtractor:
    """The model's backbone at a photo size; in bf16 only where it was trained so, or on a cache that is."""
    config = loaded.config
    made = FeatureExtractor(loaded.model.backbone, set(kinds), size, config.data.flip and "levels" in kinds)
    made.bf16 = made.bf16 and (config.data.cache or resolve_precision(config.train.precision, made.device) != "32")
    return made


def extract_by_shape(run: FeatureExtractor, photos: list[np.ndarray]) -> dict[FeatureKind, Tensor]:
    """Features of photos [H, W, 3] of any sizes, those of one size together: {kind: [R, views, ...]}."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, photo in enumerate(photos):
        groups.setdefault(photo.shape, []).append(i)
    order: list[int] = []
    parts: dict[FeatureKind, list[Tensor]] = {}
    for shape, rows in groups.items():
        most = max(1, run.pixels // prod(shape[:2]))
        for start in range(0, len(rows), most):
            chosen = rows[start : start + most]
            order += chosen
            for kind, values in run([photos[i] for i in chosen]).items():
                parts.setdefault(cast(FeatureKind, kind), []).append(values)
    back = torch.tensor(order, dtype=torch.int64).argsort()
    return {kind: torch.cat(values)[back] for kind, values in parts.items()}


Views = dict[int, np.ndarray]


def decode_ahead(
    samples: Sequence[Sample], wanted: dict[int, list[FeatureKind]], settings: PredictOptions
) -> Iterator[list[tuple[Sample, Views | str]]]:
    """Batches of photos at the sizes wanted, or why one could not be read; one batch is decoded ahead."""

    def load(sample: Sample) -> Views | str:
        needed = [
            size for size, kinds in wanted.items() if any(needs_feature(sample, kind, settings) for kind in kinds)
        ]
        try:
            photo = load_image(sample.path) if needed else np.empty(0)
        except ImageError as error:
            return error.reason
        return {size: transforms.resize_for_task(photo, size) for size in needed}

    todo, ahead = iter(samples), deque[tuple[Sample, Future]]()
    pool = ThreadPoolExecutor()
    try:
        while True:
            for sample in islice(todo, 2 * settings.batch_size - len(ahead)):
                ahead.append((sample, pool.submit(load, sample)))
            if not ahead:
                return
            first = [ahead.popleft() for _ in range(min(settings.batch_size, len(ahead)))]
            yield [(sample, future.result()) for sample, future in first]
    finally:
        pool.shutdown(cancel_futures=True)


def extract_cached(loaded: LoadedModel, samples: Sequence[Sample], settings: PredictOptions) -> Iterator[FeatureBatch]:
    """Batches of features from the cache, where they are put first if need be."""
    config = loaded.config
    stores = {
        kind: feature_store(loaded, size, kind)
        for size, kinds in feature_sizes(config, settings).items()
        for kind in kinds
    }
    hashes = hash_images([sample.path for sample in samples], Path(config.data.split_dir))
    wanted = {
        kind: [(digest, s.path) for digest, s in zip(hashes, samples, strict=True) if needs_feature(s, kind, settings)]
        for kind in stores
    }
    wants = [
        CacheRequest(one, {digest: path for digest, path in wanted[kind] if digest}) for kind, one in stores.items()
    ]
    fill_feature_stores(loaded.model.backbone, wants, settings.progress)
    places = {kind: one.rows([digest or "00" for digest in hashes]) for kind, one in stores.items()}
    for start in range(0, len(samples), settings.batch_size):
        seen = FeatureBatch(list(samples[start : start + settings.batch_size]), {})
        for kind, one in stores.items():
            here = places[kind][start : start + len(seen.samples)]
            rows = [i for i, sample in enumerate(seen.samples) if needs_feature(sample, kind, settings)]
            lost = [i for i in rows if here[i] < 0]
            seen.failed |= {i: check_image(seen.samples[i].path) or "was changed meanwhile" for i in lost}
            if found := [i for i in rows if here[i] >= 0]:
                seen.rows[kind], seen.features[kind] = found, _read(one, here[found])
        yield seen


def feature_store(loaded: LoadedModel, size: int, kind: FeatureKind) -> FeatureStore:
    """The cache's store for what a head sees."""
    config, backbone = loaded.config, loaded.model.backbone
    return FeatureStore(config.data.cache_dir, FeatureSpec(kind, backbone.fingerprint(kind), size, config.data.flip))


def _read(one: FeatureStore, rows: np.ndarray) -> Tensor:
    views = range(one.recipe.views if one.recipe.kind == "levels" else 1)  # captions are of the photo as it is
    return torch.stack([one.read(rows, np.full(len(rows), view)) for view in views], dim=1)
