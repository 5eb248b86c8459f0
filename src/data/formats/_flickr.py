"""What Flickr8k and Flickr30k share: token files, Kaggle's captions.txt, results.csv, split lists, Karpathy's json.

Held by tests/data/formats/test_flickr.py.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data.formats import _karpathy
from src.data.formats.base import (
    NoOfficialSplit,
    find_file,
    find_folder,
    make_sample,
    read_text,
    source_folder,
)
from src.data.sample import Sample
from src.data.validation_report import DataProblem

LISTS = {"train": "train", "dev": "val", "val": "val", "test": "test"}
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
        captions = read_captions(self._caption_file(source))
        for _, name in self.read_lists(source):
            captions.setdefault(name, [])
        return mend_names(captions, self._image_folder(source))

    def official_split(self, source: SourceConfig) -> dict[str, str]:
        """train, val or test by image name, from the list files or Karpathy's json.

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
        if not (path := folder / self.karpathy).is_file():
            raise NoOfficialSplit(
                f"{folder}: has no official split (Flickr_8k.trainImages.txt and its like, or {path.name}); "
                "add it or set split: random"
            )
        return _karpathy.read_split(_karpathy.read_json(path), path)

    def find_problems(self, source: SourceConfig) -> list[DataProblem]:
        """Images in two of the official lists."""
        if source.split != "official":
            return []
        counts = Counter(name for _, name in self.read_lists(source))
        twice = [name for name, count in counts.items() if count > 1]
        return [
            DataProblem.of("photos are in two official lists", twice, "remove each from one of the lists", fatal=True)
        ]

    def read_lists(self, source: SourceConfig) -> list[tuple[str, str]]:
        """(part, image name) of every line of the official lists; empty where there are none.

        Flickr30k Entities lists numbers alone: 100 is 100.jpg where that has captions.
        """
        folder = source_folder(source)
        for place in (folder, folder / "Flickr8k_text"):
            entries = [
                (LISTS[match[1]], line.strip())
                for path in sorted(place.glob("*.txt"))
                if (match := LIST_NAME.fullmatch(path.name))
                for line in read_text(path).splitlines()
                if line.strip()
            ]
            if entries:
                return list(dict.fromkeys(self._add_suffixes(entries, source)))
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
    lines = [line for line in re.split(r"\r?\n", read_text(path)) if line.strip()]
    if not lines:
        raise UserError(f"{path}: is empty; download it again")
    captions: dict[str, list[str]] = {}
    for name, text in _rows(lines, path):
        captions.setdefault(name, []).append(text)
    return captions


def mend_names(captions: dict[str, list[str]], images: Path) -> dict[str, list[str]]:
    """The official token file calls one image 2258277193_586949ec62.jpg.1; there it is without the last two."""
    result: dict[str, list[str]] = {}
    for name, texts in captions.items():
        mended = re.sub(r"\.jpg\.\d+$", ".jpg", name)
        if mended != name and ((images / name).exists() or not (images / mended).exists()):
            mended = name
        result.setdefault(mended, []).extend(texts)
    return result


def _rows(lines: list[str], path: Path) -> Iterator[tuple[str, str]]:
    """(photo name, caption) of each line, in the form that the first line shows."""
    header = [column.strip().lower() for column in re.split(r"[,|]", lines[0])]
    if "\t" in lines[0]:
        return _token_rows(lines, path)
    if header[0] not in ("image", "image_name", "img_name", "filename"):
        raise UserError(f"{path}: line 1 is neither `photo#0<tab>caption` nor a header that starts with image")
    return _column_rows(lines[1:], "|" if "|" in lines[0] else ",", numbered=len(header) == 3, path=path)


def _token_rows(lines: Iterable[str], path: Path) -> Iterator[tuple[str, str]]:
    """`photo.jpg#0<tab>caption`"""
    for number, line in enumerate(lines, 1):
        name, tab, text = line.partition("\t")
        name, mark, _ = name.rpartition("#")
        if not tab or not mark:
            raise UserError(f"{path}: line {number} is not `photo#number<tab>caption`; correct or remove it")
        yield name.strip(), text.strip()


def _column_rows(lines: Iterable[str], separator: str, numbered: bool, path: Path) -> Iterator[tuple[str, str]]:
    """`photo.jpg,caption` or `photo.jpg| 0| caption`

    Only the first separators count, for captions hold commas, quoted or not. Flickr30k's results.csv has a row whose
    second separator is missing (2199200615.jpg| 4   A dog runs across the grass .).
    """
    for number, line in enumerate(lines, 2):
        name, mark, text = line.partition(separator)
        if not mark or not name.strip():
            raise UserError(f"{path}: line {number} is not `photo{separator}caption`; correct or remove it")
        if numbered:
            match = re.match(rf"\s*\d+\s*{re.escape(separator)}?(.*)", text)
            if not match:
                raise UserError(f"{path}: line {number} has no caption number; correct or remove it")
            text = match[1]
        yield _unquote(name), _unquote(text)


def _unquote(text: str) -> str:
    text = text.strip()
    return text[1:-1].replace('""', '"').strip() if len(text) > 1 and text[0] == text[-1] == '"' else text
