"""Karpathy's json (dataset_flickr8k.json, dataset_flickr30k.json, dataset_coco.json): captions and split in one file.

Karpathy and Fei-Fei 2015, https://cs.stanford.edu/people/karpathy/deepimagesent/
Held by tests/data/formats/test_flickr.py and test_coco.py.
"""

import json
from pathlib import Path
from typing import Any

from src.common.errors import UserError
from src.data.formats.base import NoOfficialSplit, read_text

# restval: COCO's validation images that the split gives to training.
SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


def read_json(path: Path) -> dict[str, Any]:
    """A json file that holds an object with `images`.

    Raises:
        UserError: no json, or another kind.
    """
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: not valid json ({error}); download it again") from error
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"{path}: has no list `images`; a captions file of COCO or Karpathy's is needed")
    return content


def is_karpathy(content: dict[str, Any]) -> bool:
    """Whether read_json's result is Karpathy's, and not COCO's own, which has no annotations where they are secret."""
    first = content["images"][0] if content["images"] else {}
    return "annotations" not in content and not (isinstance(first, dict) and "file_name" in first)


def read_captions(content: dict[str, Any], path: Path) -> dict[str, list[str]]:
    """Captions by image name, in the file's order.

    An image's name is its file name; in COCO's, its folder goes before it (val2014/COCO_val2014_000000391895.jpg).

    Raises:
        UserError: an image without name, or a sentence without text.
    """
    captions = {}
    for image in content["images"]:
        name = _name(image, path)
        captions[name] = [text_of(sentence, "raw", name, path) for sentence in image.get("sentences") or []]
    return captions


def text_of(entry: Any, key: str, name: str, path: Path) -> str:
    """A caption's text: the value of a key of its entry.

    Raises:
        UserError: it is no text; the image is named.
    """
    text = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(text, str):
        raise UserError(f"{path}: a caption of {name} has no text under {key!r}; correct or remove it")
    return text.strip()


def read_split(content: dict[str, Any], path: Path) -> dict[str, str]:
    """train, val or test by image name.

    Raises:
        NoOfficialSplit: no image has a part.
        UserError: an image has an unknown part.
    """
    if not any("split" in image for image in content["images"]):
        raise NoOfficialSplit(f"{path}: has no official split, for no image has `split`; set split: random")
    split = {}
    for image in content["images"]:
        name = _name(image, path)
        if image.get("split") not in SPLITS:
            raise UserError(f"{path}: image {name}: unknown split {image.get('split')!r}; known: {', '.join(SPLITS)}")
        split[name] = SPLITS[image["split"]]
    return split


def _name(image: dict[str, Any], path: Path) -> str:
    if not isinstance(image, dict) or not isinstance(image.get("filename"), str):
        raise UserError(f"{path}: an image has no `filename`; this is not Karpathy's json")
    folder = image.get("filepath", "")
    return f"{folder}/{image['filename']}" if folder else image["filename"]
