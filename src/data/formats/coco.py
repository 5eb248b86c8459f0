"""COCO captions: the official captions_train2017.json and its like, or Karpathy's dataset_coco.json."""

import re
from pathlib import Path
from typing import Any

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data.formats import _karpathy
from src.data.formats.base import make_sample, source_folder
from src.data.sample import Sample

USUAL = ["annotations/captions_*.json", "captions_*.json", "dataset_coco.json"]


def read_samples(source: SourceConfig) -> list[Sample]:
    """One sample an image, in the files' order. An image's name is its folder and file name (val2017/000000000139.jpg).

    Raises:
        UserError: no caption file, one that is no COCO json, a caption of an unknown image.
    """
    images = _image_folder(source)
    return [
        make_sample(source, images, name, texts)
        for path in caption_files(source)
        for name, texts in _captions(_karpathy.read_json(path), path).items()
    ]


def raw_captions(source: SourceConfig) -> dict[str, list[str]]:
    """Each image's captions as they stand in the files, empty ones too."""
    captions: dict[str, list[str]] = {}
    for path in caption_files(source):
        captions |= _captions(_karpathy.read_json(path), path)
    return captions


def official_split(source: SourceConfig) -> dict[str, str]:
    """train, val or test by image name: Karpathy's, or by the official file that names the image."""
    split: dict[str, str] = {}
    for path in caption_files(source):
        content = _karpathy.read_json(path)
        if _karpathy.is_karpathy(content):
            split |= _karpathy.read_split(content, path)
        else:
            split |= dict.fromkeys(_names(content, path).values(), _part(path)[0])
    return split


def caption_files(source: SourceConfig) -> list[Path]:
    """The caption files; the key `captions` names them, also as a pattern (annotations/captions_*2017.json).

    Raises:
        UserError: there is none, or those of several years, which hold the same images twice.
    """
    folder = source_folder(source)
    for pattern in [source.captions] if source.captions else USUAL:
        paths = sorted(folder.glob(pattern))
        years = {match[0] for path in paths if (match := re.search(r"20\d\d", path.name))}
        if len(years) > 1:
            raise UserError(
                f"{folder}: has captions of {' and '.join(sorted(years))}; choose with captions: "
                f"annotations/captions_*{max(years)}.json"
            )
        if paths:
            return paths
    raise UserError(f"{folder}: has no {source.captions or ' or '.join(USUAL)}; name it with the key `captions`")


def _image_folder(source: SourceConfig) -> Path:
    folder = source_folder(source)
    if source.images and not (folder / source.images).is_dir():
        raise UserError(f"{folder / source.images}: no such folder; correct the key `images` of this data source")
    images = folder / (source.images or "images")
    return images if images.is_dir() else folder


def _captions(content: dict[str, Any], path: Path) -> dict[str, list[str]]:
    if _karpathy.is_karpathy(content):
        return _karpathy.read_captions(content, path)
    names = _names(content, path)
    captions: dict[str, list[str]] = {name: [] for name in names.values()}
    try:
        for note in content["annotations"]:
            name = names[note["image_id"]]
            captions[name].append(_karpathy.text_of(note, "caption", name, path))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: no COCO captions ({error} is missing); download it again") from error
    return captions


def _names(content: dict[str, Any], path: Path) -> dict[Any, str]:
    """The images' names by COCO's id."""
    try:
        return {image["id"]: f"{_part(path)[1]}/{image['file_name']}" for image in content["images"]}
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: no COCO captions ({error} is missing); download it again") from error


def _part(path: Path) -> tuple[str, str]:
    """(train, val or test, folder of images) of a file's name: captions_val2017.json -> val, val2017."""
    match = re.search(r"(train|val|test)\d*", path.stem)
    if not match:
        raise UserError(f"{path}: its name says neither train nor val nor test; rename it to captions_train2017.json")
    return match[1], match[0]
