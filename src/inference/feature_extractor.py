"""A frozen backbone's grids and level statistics: of images in memory, and of files, once, in the feature cache."""

import ctypes
import hashlib
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from src.common.device import has_fast_bf16
from src.common.errors import UserError
from src.common.progress import progress_bar
from src.data import transforms
from src.data.feature_store import DTYPES, FeatureKind, FeatureStore, FeatureWriter
from src.data.image_io import ImageError, decode_image
from src.inference.prefetch import prefetch

K = TypeVar("K")
COMMIT_SECONDS = 5.0  # at most this much work is lost when the process is killed


@dataclass
class CacheRequest:
    """Images whose features a store is to hold: SHA-256 in hexadecimal -> file."""

    store: FeatureStore
    paths: dict[str, Path]


@dataclass
class CacheResult:
    """The work of `fill_feature_stores`.

    Attributes:
        photos: images computed now, without those that the stores held before.
        seconds: of the work.
        failed: why images could not be read, by path.
    """

    photos: int = 0
    seconds: float = 0.0
    failed: dict[Path, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"computed the features of {self.photos:,} photos in {self.seconds:.1f} s; {len(self.failed)} left out"


def fill_feature_stores(backbone: nn.Module, requests: Sequence[CacheRequest], progress: bool = True) -> CacheResult:
    """Computes missing features. Stores of one image size are filled by one pass through the backbone.

    Images that cannot be read are skipped. After an interruption, the same call goes on from there; while another
    process computes the same features, this one waits, and then finds them.

    Args:
        backbone: frozen; `backbone(pixels [B, 3, H, W])` has `grid` [B, N, C] and `levels` [B, L], and methods of
            those names give one of them. It runs where its weights are, in bf16 where that is fast.
        requests: the images of each store.
        progress: show a bar.

    Raises:
        UserError: the disk is too small.
    """
    result, start = CacheResult(), time.monotonic()
    groups: dict[tuple[int, bool], list[CacheRequest]] = {}
    for request in sorted(requests, key=lambda request: request.store.folder):  # one order of locks: no deadlock
        spec = request.store.recipe
        groups.setdefault((spec.size, spec.flip), []).append(request)
    for (size, flip), requested in groups.items():
        group = _one_per_store(requested)
        if not any(map(_missing, group)):
            continue
        with ExitStack() as stack:
            for request in group:
                stack.enter_context(request.store.locked())
            kinds = [request.store.recipe.kind for request in group]
            _fill(FeatureExtractor(backbone, kinds, size, flip), group, result, progress)
    result.seconds = time.monotonic() - start
    return result


def fill_on_device(backbone: nn.Module, requests: Sequence[CacheRequest], progress: bool = True) -> CacheResult:
    """As `fill_feature_stores`, on a GPU where there is one; the backbone then returns to where it was."""
    home = next(backbone.parameters()).device
    try:
        return fill_feature_stores(backbone.to("cuda" if torch.cuda.is_available() else home), requests, progress)
    finally:
        backbone.to(home)


class FeatureExtractor:
    """A frozen backbone at one image size.

    Args:
        backbone: as for `fill_feature_stores`.
        kinds: features to compute: grid, levels or both.
        size: of the images, as in a FeatureSpec.
        flip: also of the mirrored images.
    """

    def __init__(self, backbone: nn.Module, kinds: Iterable[FeatureKind], size: int, flip: bool) -> None:
        self.kinds = set(kinds)
        self.size = size
        self.flip = flip
        self.device = next((weight.device for weight in backbone.parameters()), torch.device("cpu"))
        self.backbone = backbone.eval().to(memory_format=torch.channels_last)
        self.pixels = 2**24 if self.device.type == "cuda" else 2**20  # of a batch: enough to keep the device busy
        self.bf16 = has_fast_bf16(self.device)
        if self.device.type == "cpu":
            reuse_memory()
        cv2.setNumThreads(0)  # images are decoded in parallel instead

    def __call__(self, images: list[np.ndarray]) -> dict[FeatureKind, Tensor]:
        """n images [H, W, 3] of one size to grid [n, views, N, C] and levels [n, views, L], by kind, on the CPU."""
        mirrored = [cv2.flip(image, 1) for image in images] if self.flip else []
        views = torch.from_numpy(np.stack([*images, *mirrored])).to(self.device)
        pixels = views.permute(0, 3, 1, 2).float().div_(255)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            if len(self.kinds) == 2:
                features = vars(self.backbone(pixels))
            else:
                features = {kind: getattr(self.backbone, kind)(pixels) for kind in self.kinds}
        return {kind: _by_image(features[kind], kind, 2 if self.flip else 1) for kind in self.kinds}

    def extract(self, images: Sequence[np.ndarray]) -> dict[FeatureKind, Tensor]:
        """As a call, for R images of any sizes, in their order; {} without images."""
        order: list[int] = []
        parts: dict[FeatureKind, list[Tensor]] = {}
        for rows, batch in batches_by_shape(enumerate(images), self.pixels):
            order += rows
            for kind, values in self(batch).items():
                parts.setdefault(kind, []).append(values)
        back = torch.tensor(order, dtype=torch.int64).argsort()
        return {kind: torch.cat(values)[back] for kind, values in parts.items()}

    def batches(self, paths: dict[str, Path], failed: dict[Path, str]) -> Iterator[tuple[list[str], list[np.ndarray]]]:
        """The images' hashes and pixels, in batches of one size; why others cannot be read goes to `failed`.

        They are decoded two batches ahead of a GPU, and between the batches of a CPU: there both need the same cores,
        and a forward pass whose threads wait for one another is slowed most.
        """
        overlap = self.device.type == "cuda"
        depth = max(16, (2 if overlap else 1) * self.pixels // (self.size or 512) ** 2)

        def decoded() -> Iterator[tuple[str, np.ndarray]]:
            for (digest, path), image in prefetch(self._load, paths.items(), depth, overlap):
                if isinstance(image, str):
                    failed[path] = image
                else:
                    yield digest, image

        return batches_by_shape(decoded(), self.pixels)

    def _load(self, item: tuple[str, Path]) -> np.ndarray | str:
        """An image at its size, or why it cannot be read."""
        digest, path = item
        try:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != digest:
                return "was changed while the cache was built; start again"
            return transforms.resize_for_task(decode_image(data, path), self.size)
        except ImageError as error:
            return error.reason
        except OSError as error:
            return f"cannot be read ({error.strerror})"


def batches_by_shape(images: Iterable[tuple[K, np.ndarray]], pixels: int) -> Iterator[tuple[list[K], list[np.ndarray]]]:
    """Images [H, W, 3] with their keys, in batches of one shape and about `pixels` pixels each, at least one image.

    Of images of many shapes, batches are handed out before they are full once 8 * `pixels` pixels wait.
    """
    groups: dict[tuple[int, ...], list[tuple[K, np.ndarray]]] = {}
    waiting = 0
    for key, image in images:
        shape = image.shape
        groups.setdefault(shape, []).append((key, image))
        waiting += image.size
        crowded = waiting > 24 * pixels
        if crowded:
            shape = max(groups, key=lambda shape: len(groups[shape]) * prod(shape))
        if crowded or len(groups[shape]) >= max(1, pixels // prod(shape[:2])):
            waiting -= len(groups[shape]) * prod(shape)
            yield _unzip(groups.pop(shape))
    yield from map(_unzip, groups.values())


def reuse_memory() -> None:
    """Makes the C library keep and reuse large blocks of freed memory for the rest of the process.

    By default glibc hands each block over 32 MB back to the system at once, and a forward pass on the CPU spends up to
    two thirds of its time in page faults.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def _fill(extractor: FeatureExtractor, requests: list[CacheRequest], result: CacheResult, progress: bool) -> None:
    """Computes what the stores lack; the caller holds them locked."""
    missing = [_missing(request) for request in requests]
    todo = {digest: path for paths in missing for digest, path in paths.items()}
    kinds = " and ".join(request.store.recipe.kind for request in requests)
    title = f"features ({kinds}, {f'{extractor.size} px' if extractor.size else 'own size'})"
    with ExitStack() as stack, progress_bar(len(todo), title, show=progress) as bar:
        writers = [stack.enter_context(FeatureWriter(request.store)) for request in requests]
        saved = started = time.monotonic()
        for digests, images in extractor.batches(todo, result.failed):
            features = extractor(images)
            for writer, paths in zip(writers, missing, strict=True):
                values = features[writer.store.recipe.kind]
                if saved == started:
                    _check_room(writer.store, tuple(values.shape[2:]), len(paths))
                if rows := [i for i, digest in enumerate(digests) if digest in paths]:
                    writer.append([bytes.fromhex(digests[i]) for i in rows], values[rows])
            result.photos += len(digests)
            bar.update(len(digests))
            if saved == started or time.monotonic() - saved > COMMIT_SECONDS:
                for writer in writers:
                    writer.commit()
                saved = time.monotonic()


def _one_per_store(requests: Sequence[CacheRequest]) -> list[CacheRequest]:
    """The requests with the images of those for the same store joined."""
    joined: dict[Path, CacheRequest] = {}
    for request in requests:
        joined.setdefault(request.store.folder, CacheRequest(request.store, {})).paths.update(request.paths)
    return list(joined.values())


def _missing(request: CacheRequest) -> dict[str, Path]:
    known = set(request.store.digests())
    return {digest: path for digest, path in request.paths.items() if bytes.fromhex(digest) not in known}


def _check_room(store: FeatureStore, shape: tuple[int, ...], photos: int) -> None:
    need, free = photos * store.row_bytes(shape), shutil.disk_usage(store.folder).free
    if need > free:
        raise UserError(
            f"{store.folder}: the feature cache needs {need / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free: "
            "set data.cache_dir to another disk, data.flip to false (half the size) or data.cache to false"
        )


def _by_image(features: Tensor, kind: FeatureKind, views: int) -> Tensor:
    """[views * n, ..] to [n, views, ..] on the CPU, in the store's precision."""
    return features.to(getattr(torch, DTYPES[kind])).unflatten(0, (views, -1)).transpose(0, 1).cpu()


def _unzip(pairs: list[tuple[K, np.ndarray]]) -> tuple[list[K], list[np.ndarray]]:
    return [key for key, _ in pairs], [image for _, image in pairs]
