"""SHA-256 of image files, computed once: a file keyed by path, size and time of change stores them.

Held by tests/data/test_split.py.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from src.common.files import sha256, stat_file, write_text
from src.common.progress import progress_bar

FILE = "hashes.json"
log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")


def hash_images(paths: Sequence[Path], folder: Path) -> list[str | None]:
    """Each file's SHA-256, None where it is missing or cannot be read.

    Args:
        paths: the images.
        folder: of the file of known hashes, if it can be written; a second call then reads no image.
    """
    known = _load(folder / FILE)
    stats = map_in_threads(file_stamp, paths)
    keys = [os.path.abspath(path) for path in paths]  # noqa: PTH100
    unique = dict(zip(keys, stats, strict=True))  # an image may be named twice
    wanted = [(key, stat) for key, stat in unique.items() if stat and known.get(key, [])[:2] != list(stat)]
    if wanted:
        hashed = map_in_threads(lambda item: hash_image(item[0]), wanted, "hashing photos")
        known |= {key: [*stat, digest] for (key, stat), digest in zip(wanted, hashed, strict=True) if digest}
        _save(folder / FILE, known)
    return [known[key][2] if stat and key in known else None for key, stat in zip(keys, stats, strict=True)]


def map_in_threads(function: Callable[[T], R], items: Sequence[T], progress: str = "") -> list[R]:
    """function of each item, in order, by as many threads as there are cores; `progress` names a progress bar."""
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress_bar(len(items), progress, show=bool(progress)) as bar:
        results: list[R] = []
        for chunk in _chunks(items, 1000):  # so that no future is held for each of a million images
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


def _save(file: Path, known: dict[str, list]) -> None:
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
