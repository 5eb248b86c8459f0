"""SHA-256 of photos, computed once: a file keyed by path, size and time of change remembers them."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from src.common.files import sha256, stat_file, write_text

FILE = "hashes.json"
log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")


def hash_images(paths: Sequence[Path], folder: Path) -> list[str | None]:
    """Each file's SHA-256, None where it is missing or cannot be read.

    Args:
        paths: the photos.
        folder: where the file of known hashes is kept, if it can be; a second call then reads no photo.
    """
    known = _load(folder / FILE)
    stats = map_in_threads(file_stamp, paths)
    keys = [os.path.abspath(path) for path in paths]  # noqa: PTH100
    found = dict(zip(keys, stats, strict=True))  # a photo may be named twice
    wanted = [(key, stat) for key, stat in found.items() if stat and known.get(key, [])[:2] != list(stat)]
    if wanted:
        hashed = map_in_threads(lambda item: hash_image(item[0]), wanted, "hashing photos")
        known |= {key: [*stat, digest] for (key, stat), digest in zip(wanted, hashed, strict=True) if digest}
        _keep(folder / FILE, known)
    return [known[key][2] if stat and key in known else None for key, stat in zip(keys, stats, strict=True)]


def map_in_threads(function: Callable[[T], R], items: Sequence[T], progress: str = "") -> list[R]:
    """function of each item, in order, by as many threads as there are cores; `progress` names a progress bar."""
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(items), desc=progress, disable=not progress) as bar:
        results: list[R] = []
        for chunk in _chunks(items, 1000):  # so that no future is held for each of a million photos
            for result in pool.map(function, chunk):
                results.append(result)
                bar.update()
    return results


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _load(file: Path) -> dict[str, list]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # no file yet, or one damaged from outside: it is made anew
    known = known if isinstance(known, dict) else {}
    return {key: value for key, value in known.items() if isinstance(value, list) and len(value) == 3}


def _keep(file: Path, known: dict[str, list]) -> None:
    try:
        write_text(file, json.dumps(known, ensure_ascii=False, separators=(",", ":")))
    except OSError as error:  # it only saves time
        log.warning("%s: cannot be written (%s); photos are hashed anew each time", file, error.strerror)


def file_stamp(path: Path) -> tuple[int, int] | None:
    """A file's bytes and when it was changed, in nanoseconds; None where it is missing or no regular file."""
    try:
        stat = stat_file(path)
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def hash_image(path: str) -> str | None:
    """A file's SHA-256, None where it cannot be read."""
    try:
        stat_file(Path(path))
        return sha256(Path(path))
    except OSError:
        return None
