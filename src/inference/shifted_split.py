"""A hold-out of the images that are farthest from all others, by clusters of a backbone's features.

Notation: R images, D of a vector.
"""

import zlib
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans

from src.common.errors import UserError
from src.common.progress import print_once
from src.config.schema import Config, SourceConfig
from src.data.formats.base import source_name
from src.data.image_hashes import hash_images
from src.data.sources import make_split, read_source
from src.data.split import shifted_file, stratified_draw, write_split
from src.inference.image_vectors import image_vectors
from src.models.backbones.base import Backbone, resolve_backbone

CLUSTERS = 50
MARGIN = 1.2  # of the share: a cluster that would exceed it stays in training


def write_splits(config: Config) -> str:
    """As `make_split`, and writes shifted splits first."""
    ensure_shifted_splits(config)
    return make_split(config.data)


def ensure_shifted_splits(config: Config, backbone: Backbone | None = None) -> None:
    """Writes the split of each source whose split is shifted, unless it is on disk; later runs read the file.

    Args:
        config: data, heads and backbone.
        backbone: of the config; None: it is built where it is needed.

    Raises:
        UserError: data.val is 0, or the images cannot be read.
    """
    for source in config.data.sources:
        if source.split == "shifted":
            if not config.data.val:
                raise UserError("data.val: is 0, so split shifted holds nothing out; set it above 0")
            write_shifted_split(config, source, backbone)


def write_shifted_split(config: Config, source: SourceConfig, backbone: Backbone | None) -> None:
    """Writes the split of one source: far clusters to val, a random share of the others to test."""
    data, samples = config.data, read_source(source)
    if (file := shifted_file(samples, data)).is_file():
        return
    if backbone is None:
        config = resolve_backbone(config)
        backbone = Backbone(config.model.backbone)
    rows, vectors = image_vectors(config, backbone, samples)
    if len(rows) < 2:
        raise UserError(f"{source_name(source)}: fewer than two photos can be read; check the source's paths")
    parts = np.full(len(samples), "train", dtype="<U5")
    parts[rows[far_images(vectors, data.val, data.split_seed)]] = "val"
    near = np.flatnonzero(parts == "train")
    mos = np.array([np.nan if samples[row].mos is None else samples[row].mos for row in near], dtype=np.float64)
    rng = np.random.default_rng([data.split_seed, zlib.crc32(source_name(source).encode())])
    test = stratified_draw(np.arange(len(near)), mos, min(1.0, data.test * len(samples) / max(1, len(near))), rng)
    parts[near[test]] = "test"
    keys = [(sample.source, sample.name) for sample in samples]
    hashes = hash_images([sample.path for sample in samples], Path(data.split_dir))
    write_split(file, samples, dict(zip(keys, parts.tolist(), strict=True)), hashes)
    print_once(f"{source_name(source)}: split shifted holds out {(parts == 'val').sum():,} photos; wrote {file}")


def far_images(vectors: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The images [R] bool of the clusters farthest from the rest.

    k-means makes 50 clusters, of fewer than 100 images R / 2. The cluster whose centre has the greatest distance from
    the mean of all images outside the hold-out joins it, until it has the share. A cluster that would make it larger
    than 1.2 times the share stays outside.

    Args:
        vectors: [R, D].
        share: of the images to hold out.
        seed: of k-means.
    """
    count = max(2, min(CLUSTERS, len(vectors) // 2))
    labels = KMeans(count, n_init=4, random_state=seed).fit_predict(vectors)
    sizes = np.bincount(labels, minlength=count)
    sums = np.zeros((count, vectors.shape[1]))
    np.add.at(sums, labels, vectors)
    held, waiting = np.zeros(count, bool), set(np.flatnonzero(sizes).tolist())
    while waiting and sizes[held].sum() < share * len(vectors):
        rest_sum, rest_size = sums[~held].sum(axis=0), sizes[~held].sum()
        distances = {k: cluster_distance(sums[k], sizes[k], rest_sum, rest_size) for k in waiting}
        farthest = max(waiting, key=lambda k: (distances[k], -k))
        waiting.remove(farthest)
        held[farthest] = sizes[held].sum() + sizes[farthest] <= MARGIN * share * len(vectors)
    if not held.any():
        held[sizes.argmin()] = True
    return held[labels]


def cluster_distance(total: np.ndarray, size: int, rest_total: np.ndarray, rest_size: int) -> float:
    """The distance of a cluster's centre from the mean of the rest, which contains the cluster, without it."""
    others = (rest_total - total) / max(1, rest_size - size)
    return float(np.linalg.norm(total / size - others))
