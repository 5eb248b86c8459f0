"""The feature cache: a frozen backbone's grids and level statistics, computed once for every later run."""

import ctypes
import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from math import prod
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from src.common.device import has_fast_bf16
from src.common.errors import UserError
from src.data import transforms
from src.data.feature_store import FeatureStore, FeatureWriter
from src.data.image_io import ImageError, decode_image

COMMIT_SECONDS = 5.0  # at most this much work is lost when the process is killed


@dataclass
class CacheRequest:
    """Photos whose features a store is to hold: SHA-256 in hexadecimal -> file."""

    store: FeatureStore
    paths: dict[str, Path]


@dataclass
class CacheResult:
    """What `build` did.

    Attributes:
        photos: computed now; those that were there already are not counted.
        seconds: that it took.
        failed: photos that could not be read, with the reason.
    """

    photos: int = 0
    seconds: float = 0.0
    failed: dict[Path, str] = field(default_factory=dict)


def fill_feature_stores(backbone: nn.Module, wants: Sequence[CacheRequest], progress: bool = True) -> CacheResult:
    """Computes what is missing. Where several stores see photos at one size, each photo is seen once for all of them.

    Photos that cannot be read are skipped. Interrupted, the same call goes on from there; where another process
    computes the same, this one waits and then finds it done.

    Args:
        backbone: frozen; `backbone(pixels [B, 3, H, W])` has `grid` [B, N, C] and `levels` [B, L], and methods of
            those names give one of them. It runs where its weights are, in bf16 where that is fast.
        wants: what to compute.
        progress: show a bar.

    Raises:
        UserError: the disk is too small.
    """
    built, started = CacheResult(), time.monotonic()
    groups: dict[tuple, list[CacheRequest]] = {}
    for want in sorted(wants, key=lambda want: want.store.folder):  # one order of locks for all: no deadlock
        recipe = want.store.recipe
        groups.setdefault((recipe.size, recipe.flip), []).append(want)
    for (size, flip), group in groups.items():
        if not any(map(_missing, group)):
            continue
        with ExitStack() as stack:
            for want in group:
                stack.enter_context(want.store.locked())
            kinds: set[str] = {want.store.recipe.kind for want in group}
            _fill(FeatureExtractor(backbone, kinds, size, flip), group, built, progress)
    built.seconds = time.monotonic() - started
    return built


class FeatureExtractor:
    """A frozen backbone at one photo size, with photos decoded ahead in threads.

    Args:
        backbone: as for `build`.
        kinds: what to compute: grid, levels or both.
        size: of the photos, as in a recipe.
        flip: also of the mirrored photos.
    """

    def __init__(self, backbone: nn.Module, kinds: set[str], size: int, flip: bool) -> None:
        self.kinds = kinds
        self.size = size
        self.flip = flip
        self.device = next((weight.device for weight in backbone.parameters()), torch.device("cpu"))
        self.backbone = backbone.eval().to(memory_format=torch.channels_last)
        self.pixels = 2**24 if self.device.type == "cuda" else 2**20  # of a batch: enough to keep the device busy
        self.bf16 = has_fast_bf16(self.device)
        if self.device.type == "cpu":
            reuse_memory()
        cv2.setNumThreads(0)  # photos are decoded side by side instead

    def __call__(self, photos: list[np.ndarray]) -> dict[str, Tensor]:
        """n photos [H, W, 3] of one size to grid [n, views, N, C] and levels [n, views, L], as asked, on the CPU."""
        mirrored = [cv2.flip(photo, 1) for photo in photos] if self.flip else []
        seen = torch.from_numpy(np.stack([*photos, *mirrored])).to(self.device).permute(0, 3, 1, 2).float().div_(255)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            if len(self.kinds) == 2:
                features = vars(self.backbone(seen))
            else:
                features = {kind: getattr(self.backbone, kind)(seen) for kind in self.kinds}
        views = 2 if self.flip else 1
        return {kind: _by_photo(features[kind], kind, views) for kind in self.kinds}

    def batches(self, photos: dict[str, Path], failed: dict[Path, str]) -> Iterator[tuple[list[str], list[np.ndarray]]]:
        """The photos' hashes and pixels, in batches of one size; those that cannot be read go to `failed`."""
        alike: dict[tuple[int, ...], list[tuple[str, np.ndarray]]] = {}
        waiting = 0
        for digest, photo in self._ahead(photos, failed):
            alike.setdefault(photo.shape, []).append((digest, photo))
            waiting += photo.size
            shape = photo.shape
            if waiting > 24 * self.pixels:  # of many sizes: the fullest batch goes, full or not
                shape = max(alike, key=lambda shape: len(alike[shape]) * prod(shape))
            if waiting > 24 * self.pixels or len(alike[shape]) >= max(1, self.pixels // prod(shape[:2])):
                waiting -= len(alike[shape]) * prod(shape)
                yield _unzip(alike.pop(shape))
        yield from map(_unzip, alike.values())

    def _ahead(self, photos: dict[str, Path], failed: dict[Path, str]) -> Iterator[tuple[str, np.ndarray]]:
        """The photos in their order, decoded in threads: two batches ahead of a GPU, between the batches of a CPU.

        On a CPU both need the same cores, and a forward pass whose threads wait for one another is slowed most.
        """
        ahead = self.device.type == "cuda"
        depth = max(16, (2 if ahead else 1) * self.pixels // (self.size or 512) ** 2)
        items, queue = iter(photos.items()), deque[tuple[str, Path, Future]]()
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            while True:
                for digest, path in islice(items, depth - len(queue) if ahead or not queue else 0):
                    queue.append((digest, path, pool.submit(self._load, digest, path)))
                if not queue:
                    return
                digest, path, future = queue.popleft()
                try:
                    photo = future.result()
                except ImageError as error:
                    failed[path] = error.reason
                except OSError as error:
                    failed[path] = f"cannot be read ({error.strerror})"
                else:
                    yield digest, photo
        finally:
            pool.shutdown(cancel_futures=True)

    def _load(self, digest: str, path: Path) -> np.ndarray:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise ImageError(path, "was changed while the cache was built; start again")
        return transforms.resize_for_task(decode_image(data, path), self.size)


def reuse_memory() -> None:
    """Makes the C library keep and reuse large blocks of freed memory for the rest of the process.

    By default glibc hands each block over 32 MB back to the system at once, and a forward pass on the CPU spends up to
    two thirds of its time in page faults.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def _fill(runner: FeatureExtractor, wants: list[CacheRequest], built: CacheResult, progress: bool) -> None:
    """Computes what the stores lack; the caller holds them locked."""
    missing = [_missing(want) for want in wants]
    todo = {digest: path for photos in missing for digest, path in photos.items()}
    kinds = " and ".join(want.store.recipe.kind for want in wants)
    title = f"features ({kinds}, {f'{runner.size} px' if runner.size else 'own size'})"
    with ExitStack() as stack, tqdm(total=len(todo), desc=title, unit="photo", disable=not progress) as bar:
        writers = [stack.enter_context(FeatureWriter(want.store)) for want in wants]
        saved = started = time.monotonic()
        for digests, photos in runner.batches(todo, built.failed):
            features = runner(photos)
            for writer, photos_missing in zip(writers, missing, strict=True):
                values = features[writer.store.recipe.kind]
                if saved == started:
                    _check_room(writer.store, tuple(values.shape[2:]), len(photos_missing))
                chosen = [i for i, digest in enumerate(digests) if digest in photos_missing]
                if chosen:
                    writer.append([bytes.fromhex(digests[i]) for i in chosen], values[chosen])
            built.photos += len(digests)
            bar.update(len(digests))
            if saved == started or time.monotonic() - saved > COMMIT_SECONDS:
                for writer in writers:
                    writer.commit()
                saved = time.monotonic()


def _missing(want: CacheRequest) -> dict[str, Path]:
    known = set(want.store.digests())
    return {digest: path for digest, path in want.paths.items() if bytes.fromhex(digest) not in known}


def _check_room(store: FeatureStore, shape: tuple[int, ...], photos: int) -> None:
    need, free = photos * store.row_bytes(shape), shutil.disk_usage(store.folder).free
    if need > free:
        raise UserError(
            f"{store.folder}: the feature cache needs {need / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free: "
            "set data.cache_dir to another disk, data.flip to false (half the size) or data.cache to false"
        )


def _by_photo(features: Tensor, kind: str, views: int) -> Tensor:
    """[views * n, ..] to [n, views, ..] on the CPU, in the store's precision."""
    features = features.bfloat16() if kind == "grid" else features.float()
    return features.unflatten(0, (views, -1)).transpose(0, 1).cpu()


def _unzip(pairs: list[tuple[str, np.ndarray]]) -> tuple[list[str], list[np.ndarray]]:
    return [digest for digest, _ in pairs], [photo for _, photo in pairs]
