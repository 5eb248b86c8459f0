"""Flickr8k and Flickr30k: the official token files, Kaggle's captions.txt, results.csv, Karpathy's json."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data.formats import karpathy
from src.data.formats.base import (
    NoOfficialSplit,
    find_file,
    find_folder,
    image_path,
    read_text,
    source_folder,
    source_name,
)
from src.data.sample import Sample

CAPTIONS = {
    "flickr8k": ["Flickr8k.token.txt", "Flickr8k_text/Flickr8k.token.txt", "captions.txt", "dataset_flickr8k.json"],
    "flickr30k": [
        "results.csv",
        "flickr30k_images/results.csv",
        "results_20130124.token",
        "captions.txt",
        "dataset_flickr30k.json",
    ],
}
IMAGES = {
    "flickr8k": ["Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images", "Flickr8k_Dataset/Flicker8k_Dataset"],
    "flickr30k": [
        "flickr30k_images/flickr30k_images",
        "flickr30k_images",
        "flickr30k-images",
        "Flickr30k_Dataset",
        "Images",
        "images",
    ],
}
LISTS = {"train": "train", "dev": "val", "val": "val", "test": "test"}


def read_samples(source: SourceConfig) -> list[Sample]:
    """One sample a photo, in the caption file's order; then photos that only the split lists name, without captions.

    Raises:
        UserError: no caption file, no folder of photos, a line that cannot be read.
    """
    captions, images = raw_captions(source), _images(source)
    samples = []
    for name, texts in captions.items():
        kept = tuple(text for text in texts if text)
        samples.append(Sample(image_path(images, name), name, source_name(source), None, kept))
    return samples


def raw_captions(source: SourceConfig) -> dict[str, list[str]]:
    """Each photo's captions as they stand in the file, empty ones too."""
    captions = _captions(_caption_file(source))
    for _, name in read_lists(source):
        captions.setdefault(name, [])
    return _mended(captions, _images(source))


def official_split(source: SourceConfig) -> dict[str, str]:
    """train, val or test by photo name, from the list files or Karpathy's json.

    A photo in two lists is kept for the more careful use: test before val before train.

    Raises:
        NoSplit: there are neither.
        UserError: they cannot be read.
    """
    folder = source_folder(source)
    path = _caption_file(source)
    if path.suffix == ".json":
        return karpathy.read_split(karpathy.read_json(path), path)
    split: dict[str, str] = {}
    order = ["train", "val", "test"]
    for part, name in read_lists(source):
        if name not in split or order.index(part) > order.index(split[name]):
            split[name] = part
    if split:
        return split
    json = folder / f"dataset_{source.format}.json"
    if not json.is_file():
        raise NoOfficialSplit(
            f"{folder}: has no official split (Flickr_8k.trainImages.txt and its like, or {json.name}); "
            "add it or set split: random"
        )
    return karpathy.read_split(karpathy.read_json(json), json)


def read_lists(source: SourceConfig) -> list[tuple[str, str]]:
    """(part, photo name) of every line of the official lists; empty where there are none.

    Flickr30k Entities lists numbers alone: 100 is 100.jpg where that has captions.
    """
    folder = source_folder(source)
    found = []
    for place in (folder, folder / "Flickr8k_text"):
        for path in sorted(place.glob("*.txt")):
            if match := re.fullmatch(r"(?:Flickr_?\d+k\.)?(train|dev|val|test)(?:Images)?\.txt", path.name):
                lines = (line.strip() for line in read_text(path).splitlines())
                found += [(LISTS[match[1]], line) for line in lines if line]
        if found:
            return list(dict.fromkeys(_with_suffix(found, source)))
    return []


def _with_suffix(listed: list[tuple[str, str]], source: SourceConfig) -> list[tuple[str, str]]:
    if all("." in name for _, name in listed):
        return listed
    captions = _captions(_caption_file(source))
    return [(part, f"{name}.jpg" if "." not in name and f"{name}.jpg" in captions else name) for part, name in listed]


def _caption_file(source: SourceConfig) -> Path:
    return find_file(source_folder(source), source.captions, CAPTIONS[source.format], "captions")


def _images(source: SourceConfig) -> Path:
    return find_folder(source_folder(source), source.images, IMAGES[source.format], "images")


def _captions(path: Path) -> dict[str, list[str]]:
    if path.suffix == ".json":
        return karpathy.read_captions(karpathy.read_json(path), path)
    lines = [line for line in re.split(r"\r?\n", read_text(path)) if line.strip()]
    if not lines:
        raise UserError(f"{path}: is empty; download it again")
    captions: dict[str, list[str]] = {}
    for name, text in _rows(lines, path):
        captions.setdefault(name, []).append(text)
    return captions


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


def _mended(captions: dict[str, list[str]], images: Path) -> dict[str, list[str]]:
    """The official token file calls one photo 2258277193_586949ec62.jpg.1; there it is without the last two."""
    result: dict[str, list[str]] = {}
    for name, texts in captions.items():
        mended = re.sub(r"\.jpg\.\d+$", ".jpg", name)
        if mended != name and ((images / name).exists() or not (images / mended).exists()):
            mended = name
        result.setdefault(mended, []).extend(texts)
    return result
