"""Stores of computed features: rows in one memory-mapped file, found by the content of the photo.

A store is a folder of three files. `features.bin` has a row for each photo: [views, N, C] bfloat16 (grid),
[views, L] float32 (levels) or [views, words] int16 (trunk), view 0 the photo and view 1 its mirror image. `index.bin`
has the SHA-256 of each row's photo file, in the rows' order; `meta.json` says what the rows are. Both files only ever
grow, the index after the rows, so whatever the index names is whole, and is kept, however a writer ended.
Held by tests/inference/test_feature_extractor.py.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor

from src.common.errors import UserError, name_path_in_errors
from src.common.file_locks import file_lock
from src.common.files import write_text
from src.data import transforms

DIGEST = 32  # bytes of a SHA-256
FeatureKind = Literal["grid", "levels", "trunk"]
DTYPES = {"grid": "bfloat16", "levels": "float32", "trunk": "int16"}


@dataclass(frozen=True)
class FeatureSpec:
    """What a store's features depend on, besides the photos.

    Attributes:
        kind: grid (of the last stage, for captions), levels (statistics of all stages, for mos) or trunk (the output
            of the frozen layers below trained ones, for both).
        fingerprint: of the backbone: its architecture, weights and normalisation.
        size: the photos' side in pixels; 0: their own size.
        flip: whether the mirrored photo is there too.
        transform: how photos come to that size.
    """

    kind: FeatureKind
    fingerprint: str
    size: int
    flip: bool
    transform: str = transforms.RECIPE

    @property
    def views(self) -> int:
        """2 with the mirrored photo, else 1."""
        return 2 if self.flip else 1

    def key(self) -> str:
        """The name of the store's folder: the same for the same recipe only."""
        text = json.dumps({**asdict(self), "dtype": DTYPES[self.kind]}, sort_keys=True)
        return f"{self.kind}-{self.size or 'own'}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class FeatureStore:
    """The features of any number of photos, found by the SHA-256 of the photos' bytes.

    Attributes:
        recipe: what the features depend on.
        folder: where they are.
    """

    def __init__(self, cache_dir: Path | str, recipe: FeatureSpec) -> None:
        self.recipe = recipe
        self.folder = Path(cache_dir) / recipe.key()
        self._mapped: np.ndarray | None = None

    def __len__(self) -> int:
        """Photos in the store."""
        if not (shape := self.shape()):
            return 0
        entries = _size(self.folder / "index.bin") // DIGEST
        return min(entries, _size(self.folder / "features.bin") // self.row_bytes(shape))

    def shape(self) -> tuple[int, ...]:
        """The shape of one view, (N, C) or (L,); () while the store is empty."""
        meta = self.folder / "meta.json"
        return tuple(json.loads(meta.read_text())["shape"]) if meta.is_file() else ()

    def row_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a photo's row."""
        return self.recipe.views * prod(shape) * np.dtype(self._dtype).itemsize

    def rows(self, hashes: Sequence[str]) -> np.ndarray:
        """The row of each photo, int64, -1 where it is absent; `hashes` are in hexadecimal."""
        known = {digest: row for row, digest in enumerate(self.digests())}
        return np.array([known.get(bytes.fromhex(digest), -1) for digest in hashes], np.int64)

    def digests(self) -> list[bytes]:
        """The SHA-256 of each row's photo."""
        index = self.folder / "index.bin"
        data = index.read_bytes() if index.is_file() else b""
        return [data[i * DIGEST : (i + 1) * DIGEST] for i in range(len(self))]

    def read(self, rows: np.ndarray, views: np.ndarray | None = None) -> Tensor:
        """Features of R photos, copied from the map at once.

        Args:
            rows: [R] int64, from `rows`, none of them -1.
            views: [R] int64, 0 for the photo, 1 for its mirror image; None: all 0.

        Returns:
            [R, N, C] bfloat16 (grid), [R, L] float32 (levels) or [R, words] int16 (trunk).
        """
        shape, count = self.shape(), self.recipe.views
        if len(rows) and (rows.min() < 0 or (views is not None and views.max() >= count)):
            raise IndexError(f"{self.folder}: no such row or view")
        at = rows * count + (0 if views is None else views)
        values = torch.from_numpy(np.take(self._map(shape, rows), at, axis=0)).view(len(rows), *shape)
        return values.view(torch.bfloat16) if self.recipe.kind == "grid" else values

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the store for writing; a second process waits here until the first is done, or dead."""
        self.folder.mkdir(parents=True, exist_ok=True)
        notice = f"waiting for another process that fills {self.folder}"
        with file_lock(self.folder / "lock", notice=notice), name_path_in_errors(self.folder):
            yield

    def __getstate__(self) -> dict:
        # A map that is pickled would be copied whole into every worker.
        return {**self.__dict__, "_mapped": None}

    @property
    def _dtype(self) -> type:
        return np.float32 if self.recipe.kind == "levels" else np.int16  # numpy has no bfloat16: its bits

    def _map(self, shape: tuple[int, ...], rows: np.ndarray) -> np.ndarray:
        """[photos * views, cells]; mapped anew if the store has grown since."""
        if self._mapped is None or (rows.max(initial=-1) + 1) * self.recipe.views > len(self._mapped):
            size = (len(self) * self.recipe.views, prod(shape))
            self._mapped = np.asarray(np.memmap(self.folder / "features.bin", self._dtype, "r", shape=size))
        return self._mapped


@dataclass(frozen=True)
class CachedFeatures:
    """Features of n photos, of one store or of several side by side.

    Attributes:
        stores: S of one kind, with the same views.
        rows: [S, n] int64, each photo's row in each store, -1 where it is absent.
    """

    stores: Sequence[FeatureStore]
    rows: np.ndarray

    @staticmethod
    def find(stores: Sequence[FeatureStore], hashes: Sequence[str | None]) -> "CachedFeatures":
        """The features of photos with these hashes in hexadecimal; None: a photo without features."""
        return CachedFeatures(stores, np.stack([store.rows([digest or "00" for digest in hashes]) for store in stores]))

    @property
    def known(self) -> np.ndarray:
        """[n] bool: whether each store has the photo."""
        return np.all(self.rows >= 0, axis=0)

    def select(self, photos: np.ndarray) -> "CachedFeatures":
        """Some photos, by index or [n] bool."""
        return CachedFeatures(self.stores, self.rows[:, photos])

    def read(self, photos: np.ndarray, views: np.ndarray | None = None) -> Tensor:
        """Features of R photos, as FeatureStore.read gives them, all stores side by side in the last dimension."""
        parts = [store.read(rows[photos], views) for store, rows in zip(self.stores, self.rows, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def read_views(self, photos: np.ndarray, kind: FeatureKind) -> Tensor:
        """[R, views, ..]; for a grid the first view alone, since captions are of photos as they are."""
        views = range(self.stores[0].recipe.views if kind == "levels" else 1)
        return torch.stack([self.read(photos, np.full(len(photos), view)) for view in views], dim=1)


class FeatureWriter:
    """Appends rows to a store that the caller holds locked; used in a `with` statement.

    What an interrupted writer left half-written is cut off first.
    """

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self.pending: list[bytes] = []
        self.files: list[BinaryIO] = []

    def __enter__(self) -> "FeatureWriter":
        count, shape = len(self.store), self.store.shape()
        ends = {"features.bin": count * self.store.row_bytes(shape) if count else 0, "index.bin": count * DIGEST}
        for name, end in ends.items():
            file = (self.store.folder / name).open("ab")
            file.truncate(end)
            self.files.append(file)
        self.store._mapped = None
        return self

    def append(self, digests: Sequence[bytes], values: Tensor) -> None:
        """Adds rows; they count once `commit` is through.

        Args:
            digests: n SHA-256 of photos.
            values: [n, views, N, C], [n, views, L] or [n, views, words].
        """
        shape = tuple(values.shape[2:])
        if not (known := self.store.shape()):
            meta = {**asdict(self.store.recipe), "shape": shape}
            write_text(self.store.folder / "meta.json", json.dumps(meta, indent=2) + "\n")
        elif known != shape:
            raise UserError(f"{self.store.folder} holds features of shape {known}, not {shape}: delete that folder")
        dtype = getattr(torch, DTYPES[self.store.recipe.kind])
        bits = values.to(dtype).contiguous()
        self.files[0].write((bits.view(torch.int16) if dtype == torch.bfloat16 else bits).numpy().data)
        self.pending += digests

    def commit(self) -> None:
        """Makes the rows part of the store: the index names them only when their bytes are on the disk."""
        features, index = self.files
        features.flush()
        os.fdatasync(features.fileno())
        index.write(b"".join(self.pending))
        index.flush()
        self.pending = []

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            for file in self.files:
                file.close()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
