"""Near-duplicate images by a perceptual hash: copies in another size, quality or format get one label.

The hash is dHash (Krawetz 2013, "Kind of like that"): 64 bits, each whether a pixel of the image at 9 x 8 pixels is
brighter than its right neighbour.
"""

import json
import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from src.common.files import write_text
from src.data.image_hashes import map_in_threads
from src.data.image_io import ImageError, load_image

FILE = "perceptual_hashes.json"  # beside the SHA-256
BITS = 64
LIMIT = 3  # bits in which near-duplicates differ at most
BANDS = LIMIT + 1  # parts of a hash, of which near-duplicates have at least one in common
MIN_MIXED = 8  # bits of either value that a hash needs: those of flat images are alike, whatever they show
log = logging.getLogger(__name__)


def near_duplicate_labels(paths: Sequence[Path], hashes: Sequence[str | None], folder: Path) -> list[str | None]:
    """A label for each image, equal for near-duplicates and, through them, for their near-duplicates.

    Args:
        paths: the images.
        hashes: their SHA-256; None where it cannot be read.
        folder: of the file of known perceptual hashes, if it can be written; a second call then reads no image.

    Returns:
        The SHA-256 of the first image of each label; None where it cannot be read.
    """
    files = {digest: path for digest, path in zip(hashes, paths, strict=True) if digest}
    known = perceptual_hashes(files, folder)
    digests = [digest for digest in files if is_telling(known.get(digest))]
    values = np.array([known[digest] for digest in digests], dtype=np.uint64)
    firsts: dict[int, str] = {}
    components = near_components(values)
    labels = {digest: firsts.setdefault(label, digest) for digest, label in zip(digests, components, strict=True)}
    return [labels.get(digest, digest) if digest else None for digest in hashes]


def perceptual_hashes(files: dict[str, Path], folder: Path) -> dict[str, int | None]:
    """SHA-256 -> perceptual hash, None where the image cannot be decoded; computed once, in threads."""
    try:
        known = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}  # no file yet, or one damaged from outside: it is made anew
    missing = [(digest, path) for digest, path in files.items() if digest not in known]
    if missing:
        computed = map_in_threads(lambda item: perceptual_hash(item[1]), missing, "perceptual hashes")
        known |= {digest: value for (digest, _), value in zip(missing, computed, strict=True)}
        try:
            write_text(folder / FILE, json.dumps(known, separators=(",", ":")))
        except OSError as error:  # it only saves time
            log.warning("%s: cannot be written (%s); it is computed anew each time", folder / FILE, error.strerror)
    return known


def perceptual_hash(path: Path) -> int | None:
    """dHash of an image, 64 bits; None where it cannot be decoded."""
    try:
        image = load_image(path)
    except ImageError:
        return None
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, :-1] > small[:, 1:]).tobytes(), "big")


def is_telling(value: int | None) -> bool:
    """Whether a hash tells images apart."""
    return value is not None and MIN_MIXED <= value.bit_count() <= BITS - MIN_MIXED


def near_components(values: np.ndarray) -> np.ndarray:
    """Component [P] of each hash [P] uint64, where hashes that differ in LIMIT bits or fewer are joined.

    Two such hashes have one of BANDS parts in common, so only hashes that share a part are compared.
    """
    pairs = [np.empty((0, 2), dtype=np.int64)]
    width = BITS // BANDS
    for band in range(BANDS):
        part = (values >> np.uint64(band * width)) & np.uint64(2**width - 1)
        order = np.argsort(part, kind="stable")
        cuts = [0, *(np.flatnonzero(np.diff(part[order])) + 1).tolist(), len(order)]
        pairs += [near_pairs(values, order[start:end]) for start, end in pairwise(cuts) if end - start > 1]
    rows, columns = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(values), len(values)))
    return connected_components(graph, directed=False)[1] if len(values) else np.empty(0, dtype=np.int64)


def near_pairs(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Pairs [N, 2] of some rows whose hashes differ in LIMIT bits or fewer."""
    pairs = []
    for i, row in enumerate(rows[:-1]):
        others = rows[i + 1 :]
        near = others[np.bitwise_count(values[others] ^ values[row]) <= LIMIT]
        pairs.append(np.stack([np.full(len(near), row), near], axis=1))
    return np.concatenate(pairs)
