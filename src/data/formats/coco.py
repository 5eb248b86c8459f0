"""COCO captions: the official captions_train2017.json and its like, or Karpathy's dataset_coco.json."""

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data.formats import _karpathy
from src.data.formats.base import (
    NoOfficialSplit,
    folder_levels,
    image_path,
    innermost,
    source_folder,
    source_name,
)
from src.data.sample import Sample

KARPATHY = "dataset_coco.json"
USUAL = [KARPATHY, f"annotations/{KARPATHY}", "annotations/*captions*.json", "*captions*.json"]
ANY = ["annotations/*.json", "*.json"]
# captions_val2017 -> val, 2017; image_info_test-dev2017 -> test, 2017
PART = re.compile(r"(?<![a-z])(train|val|test)(?:ing|id|idation)?(?:-dev)?\d*(?![a-z])", re.IGNORECASE)


def read_samples(source: SourceConfig) -> list[Sample]:
    """One sample an image, in the files' order. An image's name is its folder and file name (val2017/000000000139.jpg).

    Raises:
        UserError: no caption file, one that is no COCO json, a caption of an unknown image.
    """
    captions = raw_captions(source)
    paths = _image_paths(source, captions)
    return [
        Sample(paths[name], name, source_name(source), None, tuple(filter(None, texts)))
        for name, texts in captions.items()
    ]


def raw_captions(source: SourceConfig) -> dict[str, list[str]]:
    """Each image's captions as they stand in the files, empty ones too."""
    captions: dict[str, list[str]] = {}
    for path in caption_files(source):
        for name, texts in _captions(_karpathy.read_json(path), path).items():
            captions.setdefault(name, []).extend(texts)
    return captions


def official_split(source: SourceConfig) -> dict[str, str]:
    """train, val or test by image name: Karpathy's, or by the official file that names the image.

    Raises:
        NoOfficialSplit: neither the json nor the name of a file tells the part.
    """
    split: dict[str, str] = {}
    for path in caption_files(source):
        content = _karpathy.read_json(path)
        if _karpathy.is_karpathy(content):
            split |= _karpathy.read_split(content, path)
        elif part := _part(path)[0]:
            split |= dict.fromkeys(_names(content, path).values(), part)
        else:
            remedy = "rename it to captions_train2017.json, or set split: random"
            raise NoOfficialSplit(f"{path}: its name says neither train nor val nor test; {remedy}")
    return split


def caption_files(source: SourceConfig) -> list[Path]:
    """The caption files; the key `captions` names them, also as a pattern (annotations/captions_*2017.json).

    Raises:
        UserError: there is none, or those of several years, which hold the same images twice.
    """
    folder = source_folder(source)
    for place, pattern in _patterns(folder, source.captions):
        paths = sorted(path for path in place.glob(pattern) if not path.name.startswith("."))
        years = {match[0] for path in paths if (match := re.search(r"20\d\d", path.name))}
        if len(years) > 1:
            choice = (place.relative_to(folder) / pattern).with_name(f"captions_*{max(years)}.json")
            raise UserError(f"{folder}: has captions of {' and '.join(sorted(years))}; choose with captions: {choice}")
        if paths:
            return paths
    raise UserError(f"{folder}: has no {source.captions or ' or '.join(USUAL)}; name it with the key `captions`")


def _patterns(folder: Path, named: str) -> list[tuple[Path, str]]:
    """Where caption files may lie, and their names: in the folder or right below it, as archives unpack."""
    if named:
        return [(folder, named)]
    places = [place for level in folder_levels(folder, 1) for place in level]
    return [(place, pattern) for place in places for pattern in USUAL] + [(folder, pattern) for pattern in ANY]


def _image_paths(source: SourceConfig, names: Iterable[str]) -> dict[str, Path]:
    """The images' files: in the folder that a name gives, or else in whichever folder holds a file of that name."""
    bases = _image_bases(source)
    folder_of = cache(lambda place: _existing_folder(bases, place))
    by_name = cache(lambda: _files_by_name(bases))
    paths = {}
    for name in names:
        place, _, file = name.rpartition("/")
        folder = folder_of(place)
        paths[name] = image_path(folder, file) if folder else by_name().get(file, bases[0] / name)
    return paths


def _files_by_name(bases: list[Path]) -> dict[str, Path]:
    """The files in the folders and right below them; of two with one name, that in the first folder."""
    places = dict.fromkeys(place for base in bases for level in folder_levels(base, 1) for place in level)
    entries = (entry for place in reversed(places) for entry in os.scandir(place))
    return {entry.name: Path(entry.path) for entry in entries if entry.is_file()}


def _image_bases(source: SourceConfig) -> list[Path]:
    """Folders that may hold train2017 and its like, or the images themselves."""
    folder = source_folder(source)
    if source.images:
        if not (folder / source.images).is_dir():
            raise UserError(f"{folder / source.images}: no such folder; correct the key `images` of this data source")
        return [folder / source.images]
    near = caption_files(source)[0].parent
    root = near.parent if near.name == "annotations" else near
    places = [root / "images", root, folder / "images", folder]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def _existing_folder(bases: list[Path], place: str) -> Path | None:
    """The folder that a name's folder means. Of a longer one, such as /home/me/coco/train2017, the end may be here."""
    parts = PurePosixPath(place).parts
    for start in range(len(parts)):
        for base in bases:
            if (folder := base.joinpath(*parts[start:])).is_dir():
                return innermost(folder)
            if base.name == parts[-1] and start == len(parts) - 1:
                return base
    return None


def _captions(content: dict[str, Any], path: Path) -> dict[str, list[str]]:
    if _karpathy.is_karpathy(content):
        return _karpathy.read_captions(content, path)
    names = _names(content, path)
    captions: dict[str, list[str]] = {name: [] for name in names.values()}
    for note in content.get("annotations") or []:  # absent where they are secret
        if not isinstance(note, dict) or (name := names.get(_id(note.get("image_id")))) is None:
            about = f"an annotation is of image_id {note.get('image_id') if isinstance(note, dict) else note}"
            raise UserError(f"{path}: {about}, which `images` lacks; correct or remove it")
        captions[name].append(_karpathy.text_of(note, "caption", name, path))
    return captions


def _names(content: dict[str, Any], path: Path) -> dict[str, str]:
    """The images' names by id: the file's name, with the folder that it, or the json's name, gives."""
    folder = _part(path)[1]
    names: dict[str, str] = {}
    try:
        for image in content["images"]:
            file = PurePosixPath(image["file_name"].replace("\\", "/")).as_posix().lstrip("/")
            name = f"{folder}/{file}" if folder and "/" not in file else file
            if names.setdefault(_id(image["id"]), name) != name:
                raise UserError(f"{path}: two images have the id {image['id']}; give each its own")
    except KeyError as error:
        raise UserError(f"{path}: no COCO captions ({error} is missing); download it again") from error
    except (AttributeError, TypeError) as error:
        raise UserError(f"{path}: an image is no object with a text `file_name`; download it again") from error
    return names


def _id(value: Any) -> str:
    """An id as text. 139, 139.0, "139" and "000000000139" are one image."""
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return text.lstrip("0") or "0" if text.isdecimal() else text


def _part(path: Path) -> tuple[str, str]:
    """(train, val or test, folder of images) of a file's name: captions_val2017.json -> val, val2017; else empty."""
    if not (match := PART.search(path.stem)):
        return "", ""
    return match[1].lower(), match[0].replace("-dev", "")
