"""The photos of an uploaded zip, read one at a time and never written to disk.
Held by tests/serving/test_zip_photos.py.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import BinaryIO

from src.common.errors import UserError
from src.data.image_folder import is_hidden
from src.data.image_io import SUFFIXES
from src.inference.predictor import PredictionError

MAX_FILES = 20_000  # entries of a zip, those that are left out among them
MAX_RATIO = 100  # size of all files over that of the zip; photos are packed already, so theirs is about 1
ENTRY = b"PK\x01\x02"  # begins each entry of a zip's table of contents
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack a part of any size into memory at once
PROBLEMS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)


@dataclass
class PhotoSource:
    """A photo of many: its name, and the function that reads its bytes, or says why it cannot, when its turn comes."""

    name: str
    read: Callable[[], bytes | PredictionError]


@dataclass
class ZipPhotos:
    """The photos of a zip, by name, and how many files were left out, by why."""

    photos: list[PhotoSource]
    left_out: Counter[str]


def read_zip(file: BinaryIO, megabytes: float) -> ZipPhotos:
    """The photos of a zip. Hidden files, names that lead out of its folder and files of other kinds are left out.

    Args:
        file: the zip.
        megabytes: of the largest photo.

    Raises:
        UserError: it is no zip, has too many files or unpacks to too many bytes, or it holds no photos.
    """
    archive = open_zip(file)
    photos: dict[str, PhotoSource] = {}
    left_out = Counter[str]()
    for entry in files_of(archive):
        if reason := why_left_out(entry.filename, photos):
            left_out[reason] += 1
        else:
            read = partial(read_entry, archive, entry, megabytes)
            photos[entry.filename] = PhotoSource(entry.filename, read)
    if not photos:
        others = f" ({describe_counts(left_out)})" if left_out else ""
        raise UserError(f"the zip holds no photos{others}; known suffixes are {' '.join(SUFFIXES)}")
    return ZipPhotos([photos[name] for name in sorted(photos)], left_out)


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """The zip, within the limits of all its files in sum.

    Raises:
        UserError: as `read_zip`.
    """
    data = file.read()
    if data.count(ENTRY) > MAX_FILES:  # before the table is read, which takes a kilobyte of memory an entry
        raise UserError(f"the zip holds more than {MAX_FILES:,} files; split it")
    try:
        archive = zipfile.ZipFile(file)
    except (*PROBLEMS, NotImplementedError) as error:
        raise UserError("the file is no zip, or it is damaged; pack the photos again") from error
    if sum(entry.file_size for entry in archive.infolist()) > MAX_RATIO * len(data):
        raise UserError(f"the zip unpacks to more than {MAX_RATIO} times its size, which photos do not; pack photos")
    return archive


def files_of(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """The entries of a zip that are no folders."""
    return (entry for entry in archive.infolist() if not entry.is_dir())


def why_left_out(name: str, photos: dict[str, PhotoSource]) -> str:
    """Why an entry is not among the photos; empty: it is."""
    path = PurePosixPath(name)
    if path.is_absolute() or PureWindowsPath(name).drive or "\\" in name or ".." in path.parts:
        return "with a path out of the zip"
    if any(map(is_hidden, path.parts)):
        return "hidden"
    if path.suffix.lower() not in SUFFIXES:
        return path.suffix.lower() or "without suffix"
    return "of a name that came before" if name in photos else ""


def describe_counts(left_out: Counter[str]) -> str:
    """Numbers of files by the most frequent reasons, on one line."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.most_common(6))


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, megabytes: float) -> bytes | PredictionError:
    """A photo's bytes, or why they cannot be read."""
    most = int(megabytes * 1e6)
    if entry.flag_bits & 1:
        return PredictionError("is locked by a password; pack it without")
    if entry.compress_type not in METHODS:
        return PredictionError("is packed in a rare way; pack it as deflate")
    try:
        with archive.open(entry) as file:
            data = file.read(most + 1)  # the size that the zip states may be wrong
    except (*PROBLEMS, NotImplementedError, RuntimeError):
        return PredictionError("is damaged, or packed in a way that is not known")
    return data if len(data) <= most else PredictionError(f"has more than {megabytes:g} MB; make it smaller")
