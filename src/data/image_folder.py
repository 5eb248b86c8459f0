"""The images in and below a folder as people have it: with hidden folders, links and files of other kinds.

Held by tests/data/test_image_list.py.
"""

import os
from collections import Counter
from pathlib import Path

from src.common.errors import UserError
from src.data.image_io import SUFFIXES

# Folders of thumbnails and deleted files, beside those whose name begins with a dot.
HIDDEN_NAMES = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")
DECODERS = {".heic": " (install pillow-heif)", ".heif": " (install pillow-heif)", ".avif": " (update Pillow)"}


def is_hidden(name: str) -> bool:
    """Whether a file's or folder's name says that it is not for people: .Trash, ._photo.jpg, __MACOSX."""
    return name.startswith(".") or name in HIDDEN_NAMES


def list_images(folder: Path) -> tuple[list[Path], Counter[str]]:
    """All images in and below a folder, sorted, and how many entries of each other kind there are.

    Links to folders are followed. A folder that several paths lead to is read once, by a path without links where
    there is such a path, so circles of links end.

    Raises:
        UserError: the folder cannot be read.
    """
    images: list[Path] = []
    left_out: Counter[str] = Counter()
    folders, links, visited = [folder], list[Path](), set[tuple[int, int]]()
    while folders or links:
        place = (folders or links).pop(0)
        try:
            status, entries = place.stat(), sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            if place == folder:
                raise UserError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error
            left_out["unreadable folder"] += 1
            continue
        if (identity := (status.st_dev, status.st_ino)) in visited:
            continue
        visited.add(identity)
        for entry in entries:
            if kind := _other_kind(entry):
                left_out[kind] += 1
            elif entry.is_dir():
                (links if entry.is_symlink() else folders).append(Path(entry.path))
            else:
                images.append(Path(entry.path))
    return sorted(images), left_out


def describe_left_out(left_out: Counter[str]) -> str:
    """The kinds of entries that are no images, the commonest first: "3 .txt, 2 hidden files, 1 .heic (..)"."""
    return ", ".join(
        f"{count} {kind}{'s' if count > 1 and kind[0] != '.' else ''}{DECODERS.get(kind, '')}"
        for kind, count in left_out.most_common()
    )


def _other_kind(entry: os.DirEntry[str]) -> str:
    """The kind of an entry that is neither an image nor a folder to read; empty for these."""
    if is_hidden(entry.name):
        return "hidden folder" if entry.is_dir() else "hidden file"
    if entry.is_dir() or entry.name.lower().endswith(SUFFIXES):
        return ""
    return os.path.splitext(entry.name)[1].lower() or "suffixless file"  # noqa: PTH122
