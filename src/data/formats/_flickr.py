"""What Flickr8k and Flickr30k share: token files, tables of captions, split lists, Karpathy's json.

Held by tests/data/formats/test_flickr.py.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data.csv_table import index_images
from src.data.formats import _karpathy
from src.data.formats._caption_table import caption_rows
from src.data.formats.base import (
    NoOfficialSplit,
    find_file,
    find_folder,
    folder_levels,
    make_sample,
    read_text,
    source_folder,
)
from src.data.sample import Sample
from src.data.validation_report import DataProblem

LISTS = _karpathy.SPLITS | {"training": "train", "dev": "val", "valid": "val", "validation": "val", "testing": "test"}
LIST_NAME = re.compile(r"(?:Flickr_?\d+k\.)?(train|dev|val|test)(?:Images)?\.txt")


@dataclass(frozen=True)
class FlickrReader:
    """Reads one of the two data sets.

    Attributes:
        captions: the usual names of the caption file.
        images: the usual names of the folder of images.
        karpathy: the name of Karpathy's json.
    """

    captions: list[str]
    images: list[str]
    karpathy: str

    def read_samples(self, source: SourceConfig) -> list[Sample]:
        """One sample an image, in the caption file's order; then images that only the split lists name.

        Raises:
            UserError: no caption file, no folder of images, a line that cannot be read.
        """
        captions = self.raw_captions(source)
        images = self._image_folder(source)
        return [make_sample(source, images, name, texts) for name, texts in captions.items()]

    def raw_captions(self, source: SourceConfig) -> dict[str, list[str]]:
        """Each image's captions as they stand in the file, empty ones too."""
        written, captions = read_captions(self._caption_file(source)), dict[str, list[str]]()
        mended = name_mender(self._image_folder(source))
        for name, texts in written.items():
            captions.setdefault(mended(name), []).extend(texts)
        for _, name in self.read_lists(source):
            captions.setdefault(name, [])
        return captions

    def official_split(self, source: SourceConfig) -> dict[str, str]:
        """train, val or test by image name, from the table's column split, the list files or Karpathy's json.

        An image in two lists gets the more careful use: test before val before train.

        Raises:
            NoOfficialSplit: there are neither.
            UserError: they cannot be read.
        """
        path = self._caption_file(source)
        if path.suffix == ".json":
            return _karpathy.read_split(_karpathy.read_json(path), path)
        order = ["train", "val", "test"]
        if lists := sorted(self.read_lists(source), key=lambda entry: order.index(entry[0])):
            return {name: part for part, name in lists}
        folder = source_folder(source)
        try:
            path = find_file(folder, "", [self.karpathy], "captions")
        except UserError as error:
            raise NoOfficialSplit(
                f"{folder}: has no official split (Flickr_8k.trainImages.txt and its like, or {self.karpathy}); "
                "add it or set split: random"
            ) from error
        return _karpathy.read_split(_karpathy.read_json(path), path)

    def find_problems(self, source: SourceConfig) -> list[DataProblem]:
        """Images in two of the official lists."""
        if source.split not in ("official", "auto"):
            return []
        counts = Counter(name for _, name in self.read_lists(source))
        twice = [name for name, count in counts.items() if count > 1]
        return [
            DataProblem.of("photos are in two official lists", twice, "remove each from one of the lists", fatal=True)
        ]

    def read_lists(self, source: SourceConfig) -> list[tuple[str, str]]:
        """(part, image name) of each row of a table with a column split, or of each line of the official lists.

        Empty where there are neither. Flickr30k Entities lists numbers alone: 100 is 100.jpg where that has captions.
        """
        entries = read_split_column(self._caption_file(source))
        mended = name_mender(self._image_folder(source))
        if entries:
            return list(dict.fromkeys((part, mended(name)) for part, name in entries))
        near = [place for level in folder_levels(source_folder(source), 1) for place in level]
        for place in dict.fromkeys([*near, self._caption_file(source).parent]):
            entries = [
                (LISTS[match[1]], line.strip())
                for path in sorted(place.glob("*.txt"))
                if (match := LIST_NAME.fullmatch(path.name))
                for line in read_text(path).splitlines()
                if line.strip()
            ]
            if entries:
                entries = self._add_suffixes(entries, source)
                return list(dict.fromkeys((part, mended(name)) for part, name in entries))
        return []

    def _add_suffixes(self, entries: list[tuple[str, str]], source: SourceConfig) -> list[tuple[str, str]]:
        if all("." in name for _, name in entries):
            return entries
        captions = read_captions(self._caption_file(source))
        return [
            (part, f"{name}.jpg" if "." not in name and f"{name}.jpg" in captions else name) for part, name in entries
        ]

    def _caption_file(self, source: SourceConfig) -> Path:
        return find_file(source_folder(source), source.captions, self.captions, "captions")

    def _image_folder(self, source: SourceConfig) -> Path:
        return find_folder(source_folder(source), source.images, self.images, "images")


def read_captions(path: Path) -> dict[str, list[str]]:
    """Captions by image name, from a caption file of any of the known forms.

    Raises:
        UserError: it is empty, or a line cannot be read.
    """
    if path.suffix == ".json":
        return _karpathy.read_captions(_karpathy.read_json(path), path)
    text = read_text(path)
    if not text.strip():
        raise UserError(f"{path}: is empty; download it again")
    captions: dict[str, list[str]] = {}
    rows = _token_rows(text, path) if _is_token_file(text) else caption_rows(text, path)
    for name, texts, *_ in rows:
        captions.setdefault(name, []).extend(texts)
    return captions


def read_split_column(path: Path) -> list[tuple[str, str]]:
    """(part, image name) of each row of a caption table that has a column split; rows without a value are left out.

    Raises:
        UserError: a value is no part of a split; the row is named.
    """
    if path.suffix == ".json" or _is_token_file(text := read_text(path)):
        return []
    rows = [row for row in caption_rows(text, path) if row.part]
    for row in rows:
        if row.part.lower() not in LISTS:
            raise UserError(f"{path}: {row.label}: unknown split {row.part!r}; known: {', '.join(LISTS)}")
    return [(LISTS[row.part.lower()], row.name) for row in rows]


def name_mender(images: Path) -> Callable[[str], str]:
    """A function from an image's name in a table or list to that of its file in a folder; without a file, unchanged.

    The name may have no suffix, or begin with folders of another machine. The official token file calls one image
    2258277193_586949ec62.jpg.1; its file is without the last two.
    """
    files, known = {path.name for path in images.iterdir()}, index_images(images)

    def mended(name: str) -> str:
        if name in files:
            return name
        parts = name.replace("\\", "/").split("/")
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        tails.append(re.sub(r"\.jpg\.\d+$", ".jpg", name))
        path = next((known[tail] for tail in tails if tail in known), None)
        return path.relative_to(images).as_posix() if path else name

    return mended


def _is_token_file(text: str) -> bool:
    """Whether the first line is `photo.jpg#0<tab>caption`."""
    return re.match(r"\s*[^\t\r\n]*#[^\t\r\n]*\t", text) is not None


def _token_rows(text: str, path: Path) -> Iterator[tuple[str, list[str]]]:
    """Image name and caption of each line: `photo.jpg#0<tab>caption`"""
    lines = re.split(r"\r?\n" if "\n" in text else r"\r", text)
    for number, line in enumerate(lines, 1):
        name, tab, caption = line.partition("\t")
        name, mark, _ = name.rpartition("#")
        if not line.strip():
            continue
        if not tab or not mark:
            raise UserError(f"{path}: line {number} is not `photo#number<tab>caption`; correct or remove it")
        yield name.strip(), [caption.strip()]
