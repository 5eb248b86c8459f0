"""Images as vectors of a backbone's features, and the nearest of them, for any number of images.

Notation: P images, C features of an image, D of its vector.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from src.config.schema import Config
from src.data.feature_store import FeatureSpec, FeatureStore
from src.data.image_hashes import hash_images
from src.data.sample import Sample
from src.inference.feature_extractor import CacheRequest, fill_on_device
from src.models.backbones.base import Backbone

CHUNK = 512  # images whose features are in memory at a time
DIMENSIONS = 512  # most of a vector
LEAF, TREES = 1024, 4


def image_vectors(
    config: Config, backbone: Backbone, samples: Sequence[Sample], progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Images as vectors, from the feature store, which is filled first.

    The features are those of the heads: the grid's mean over its places or, without a decoder, the level statistics.
    They are standardised. Of more than D = 512 features, random sums are taken, which keep angles (Johnson and
    Lindenstrauss 1984; signs as Achlioptas 2003).

    Args:
        config: of the heads, image sizes and folders; its backbone is resolved.
        backbone: of the config.
        samples: P images.
        progress: show a bar.

    Returns:
        Rows of the images that can be read, [R] in their order, and their vectors [R, D] float32 of length 1.
    """
    data = config.data
    kind, size = ("grid", data.caption_size) if config.model.decoder.enabled else ("levels", data.mos_size)
    store = FeatureStore(data.cache_dir, FeatureSpec(kind, backbone.fingerprint(kind), size, data.flip))  # type: ignore[arg-type]
    paths = [sample.path for sample in samples]
    hashes = hash_images(paths, Path(data.split_dir))
    files = {digest: path for digest, path in zip(hashes, paths, strict=True) if digest}
    fill_on_device(backbone, [CacheRequest(store, files)], progress)
    places = store.rows([digest or "00" for digest in hashes])
    rows = np.flatnonzero(places >= 0)
    return rows, unit_vectors(store, places[rows])


def unit_vectors(store: FeatureStore, places: np.ndarray) -> np.ndarray:
    """Vectors [P, D], as of `image_vectors`, of rows [P] of a store."""
    if not len(places):
        return np.empty((0, 0), np.float32)
    total, squares = np.zeros((2, store.shape()[-1]))
    for values in read_features(store, places):
        total += values.sum(axis=0, dtype=np.float64)
        squares += np.einsum("nc,nc->c", values, values, dtype=np.float64)
    mean = total / len(places)
    deviation = np.sqrt(np.maximum(squares / len(places) - mean**2, 0))
    scale = np.where(deviation > 1e-6 * np.abs(mean), 1 / np.maximum(deviation, 1e-12), 0.0)
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (len(mean), DIMENSIONS))
    vectors = []
    for values in read_features(store, places):
        standardised = (values - mean.astype(np.float32)) * scale.astype(np.float32)
        vectors.append(standardised @ signs if len(mean) > DIMENSIONS else standardised)
    joined = np.concatenate(vectors)
    return joined / np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), 1e-12)


def read_features(store: FeatureStore, places: np.ndarray) -> Iterator[np.ndarray]:
    """Features [n, C] float32 of rows of a store, some at a time; of a grid, the mean over its places."""
    for start in range(0, len(places), CHUNK):
        values = store.read(places[start : start + CHUNK]).float()
        yield (values.mean(dim=1) if values.ndim == 3 else values).numpy()


def nearest_vectors(vectors: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other vectors of each vector: exact for 1,024 or fewer, else within the leaves of four random trees.

    A tree splits vectors in half by the difference of two random ones (as Annoy does, Bernhardsson 2013), so the work
    grows as P log P.

    Args:
        vectors: [P, D] of length 1.
        count: how many.
        seed: of the trees.

    Returns:
        Rows [P, count] int64, the nearest first, and cosines [P, count]; -1 and -inf where there are fewer.
    """
    nearest = np.full((len(vectors), count), -1, np.int64)
    cosines = np.full((len(vectors), count), -np.inf, np.float32)
    rng = np.random.default_rng(seed)
    for _ in range(TREES if len(vectors) > LEAF else 1):
        for rows in tree_leaves(vectors, np.arange(len(vectors)), rng):
            near = vectors[rows] @ vectors[rows].T
            np.fill_diagonal(near, -np.inf)
            order = np.argsort(-near, axis=1)[:, :count]
            near = np.take_along_axis(near, order, axis=1)
            others = np.where(np.isfinite(near), rows[order], -1)
            nearest[rows], cosines[rows] = merge_nearest(nearest[rows], cosines[rows], others, near)
    return nearest, cosines


def tree_leaves(vectors: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows of a tree's leaves, each of at most LEAF."""
    if len(rows) <= LEAF:
        yield rows
        return
    first, second = rng.choice(rows, 2, replace=False)
    order = np.argsort(vectors[rows] @ (vectors[first] - vectors[second]), kind="stable")
    for half in np.array_split(order, 2):
        yield from tree_leaves(vectors, rows[half], rng)


def merge_nearest(
    rows: np.ndarray, cosines: np.ndarray, others: np.ndarray, other_cosines: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of two lists [n, count] of rows with cosines, each row once, the highest cosine first: likewise."""
    count = rows.shape[1]
    rows, cosines = np.concatenate([rows, others], axis=1), np.concatenate([cosines, other_cosines], axis=1)
    order = np.argsort(rows, axis=1, kind="stable")
    rows, cosines = np.take_along_axis(rows, order, axis=1), np.take_along_axis(cosines, order, axis=1)
    cosines[:, 1:][rows[:, 1:] == rows[:, :-1]] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    rows, cosines = np.take_along_axis(rows, order, axis=1), np.take_along_axis(cosines, order, axis=1)
    return np.where(np.isfinite(cosines), rows, -1), cosines
