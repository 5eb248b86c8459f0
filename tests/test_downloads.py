"""The presets for data sets as people download them, with their YAML as it is, on each layout that goes round."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from src.config.loader import load_config
from src.data.image_io import decode_image
from src.data.image_list import find_images
from src.data.sources import official_splits, read_sources
from src.data.split import split_images
from src.models.backbones.base import Backbone
from src.models.multitask import MultitaskModel
from src.tuning.sweep_config import load_sweep, trial_config

ROOT = Path(__file__).parents[1]
COUNT = 40
CAPTIONS = ["A dog , brown and wet , runs .", "Two men | one boat ."]
TEN = [("train", 8), ("dev", 1), ("test", 1)]  # parts of ten photos


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())


def photos(folder: Path, first: int = 0, count: int = COUNT, name: str = "{}.jpg") -> list[str]:
    names = [name.format(i) for i in range(first, first + count)]
    for i, file in enumerate(names, first):
        photo(folder / file, i)
    return names


def table(path: Path, rows: list[list[object]], separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)


def challenge(folder: Path) -> None:
    rows: list[list[object]] = [["img_name", "img_path", "mos", "comments"]]
    for i, file in enumerate(photos(folder / "train", name="{:010d}.jpg")):
        rows += [[file[:-4], f"./train/{file}", 3 + i / 10, caption] for caption in CAPTIONS]
    table(folder / "train.csv", rows)
    names = [file[:-4] for file in photos(folder / "test", 100, 5, "{:010d}.jpg")]
    table(folder / "test.csv", [["img_name", "img_path"], *([name, f"./test/{name}.jpg"] for name in names)])
    sample = [[name, 0, "nice picture."] for name in reversed(names)]
    table(folder / "sample_submission.csv", [["img_name", "mos", "comments"], *sample])


def open_challenge(folder: Path) -> None:
    challenge(folder / "open")


def tokens(path: Path, names: list[str]) -> None:
    write(path, "".join(f"{name}#{i}\t{text}\n" for name in names for i, text in enumerate(CAPTIONS)))


def lists(folder: Path, names: list[str], form: str, tables: list[tuple[str, int]] = TEN) -> None:
    rest = list(names)
    for part, count in tables:
        size = count * len(names) // 10
        write(folder / form.format(part), "".join(f"{name}\n" for name in rest[:size]))
        rest = rest[size:]


def kaggle(folder: Path) -> None:
    rows = [[name, text] for name in photos(folder / "Images") for text in CAPTIONS]
    table(folder / "captions.txt", [["image", "caption"], *rows])


def flickr8k_original(folder: Path) -> None:
    names = photos(folder / "Flicker8k_Dataset")
    photo(folder / "__MACOSX" / "Flicker8k_Dataset" / "._0.jpg", 0)
    tokens(folder / "Flickr8k.token.txt", names)
    lists(folder, names, "Flickr_8k.{}Images.txt")


def flickr8k_folders(folder: Path) -> None:
    names = photos(folder / "Flickr8k_Dataset" / "Flicker8k_Dataset")
    tokens(folder / "Flickr8k_text" / "Flickr8k.token.txt", names)
    lists(folder / "Flickr8k_text", names, "Flickr_8k.{}Images.txt")


def flickr8k_nested(folder: Path) -> None:
    inner = folder / "Flickr_Data" / "Flickr_Data"
    tokens(inner / "Flickr_TextData" / "Flickr8k.token.txt", names := photos(inner / "Images"))
    lists(inner / "Flickr_TextData", names, "Flickr_8k.{}Images.txt")


def karpathy(path: Path, names: list[str], folders: bool = False) -> None:
    parts = {0: "test", 1: "val", 2: "restval" if folders else "train"}
    images = [
        {"filename": name, "split": parts.get(i % 10, "train"), "sentences": [{"raw": text} for text in CAPTIONS]}
        | ({"filepath": "train2014" if "train" in name else "val2014"} if folders else {})
        for i, name in enumerate(names)
    ]
    write(path, json.dumps({"images": images, "dataset": path.stem}))


def flickr8k_karpathy(folder: Path) -> None:
    karpathy(folder / "dataset_flickr8k.json", photos(folder / "Images"))


def results(path: Path, names: list[str]) -> None:
    rows = "".join(f"{name}| {i}| {text}\n" for name in names for i, text in enumerate(CAPTIONS))
    write(path, "image_name| comment_number| comment\n" + rows)


def flickr30k_kaggle(folder: Path) -> None:
    results(folder / "flickr30k_images" / "results.csv", photos(folder / "flickr30k_images" / "flickr30k_images"))


def flickr30k_flat(folder: Path) -> None:
    results(folder / "results.csv", photos(folder / "flickr30k_images"))


def flickr30k_numbered(folder: Path) -> None:
    rows = [[name, i, text] for name in photos(folder / "Images") for i, text in enumerate(CAPTIONS)]
    table(folder / "captions.txt", [["image_name", "comment_number", "comment"], *rows])


def flickr30k_original(folder: Path) -> None:
    names = photos(folder / "flickr30k-images")
    tokens(folder / "flickr30k" / "results_20130124.token", names)
    numbers = [name[:-4] for name in names]
    lists(folder / "flickr30k_entities", numbers, "{}.txt", [("train", 8), ("val", 1), ("test", 1)])


def flickr30k_karpathy(folder: Path) -> None:
    karpathy(folder / "dataset_flickr30k.json", photos(folder / "flickr30k-images"))


def flickr30k_hub(folder: Path) -> None:
    names, parts = photos(folder / "flickr30k-images"), {0: "test", 1: "val"}
    rows = [[json.dumps(CAPTIONS), "[0, 1]", parts.get(i % 10, "train"), name, i] for i, name in enumerate(names)]
    table(folder / "flickr_annotations_30k.csv", [["raw", "sentids", "split", "filename", "img_id"], *rows])


def annotations(path: Path, names: list[str]) -> None:
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    notes = [{"id": i, "image_id": i, "caption": text} for i in range(len(names)) for text in CAPTIONS]
    write(path, json.dumps({"info": {}, "images": images, "annotations": notes}))


def official_coco(folder: Path, year: str, images: str = "", name: str = "{:012d}.jpg") -> None:
    for part, first in (("train", 0), ("val", COUNT)):
        place = folder / images / f"{part}{year}"
        names = photos(place, first, name=name.replace("PART", part))
        annotations(folder / "annotations" / f"captions_{part}{year}.json", names)
        write(folder / "annotations" / f"instances_{part}{year}.json", "{}")


def coco_2014(folder: Path) -> None:
    official_coco(folder, "2014", name="COCO_PART2014_{:012d}.jpg")


def coco_2017(folder: Path) -> None:
    official_coco(folder, "2017")


def coco_2017_kaggle(folder: Path) -> None:
    official_coco(folder / "coco2017", "2017")


def coco_2014_images(folder: Path) -> None:
    official_coco(folder / "coco2014", "2014", "images", "COCO_PART2014_{:012d}.jpg")


def coco_karpathy(folder: Path) -> None:
    names = [*photos(folder / "train2014", name="COCO_train2014_{:012d}.jpg")]
    names += photos(folder / "val2014", COUNT, name="COCO_val2014_{:012d}.jpg")
    karpathy(folder / "dataset_coco.json", names, folders=True)


def coco_karpathy_beside_official(folder: Path) -> None:
    coco_2014(folder)
    karpathy(folder / "annotations" / "dataset_coco.json", [f"COCO_train2014_{i:012d}.jpg" for i in range(COUNT)], True)


def coco_karpathy_in_one_folder(folder: Path) -> None:
    names = photos(folder / "images", name="COCO_train2014_{:012d}.jpg")
    names += photos(folder / "images", COUNT, name="COCO_val2014_{:012d}.jpg")
    karpathy(folder / "dataset_coco.json", names, folders=True)


LAYOUTS: list[tuple[str, Callable[[Path], None], str]] = [
    ("challenge", challenge, "random"),
    ("challenge", open_challenge, "random"),
    ("flickr8k", kaggle, "random"),
    ("flickr8k", flickr8k_original, "official"),
    ("flickr8k", flickr8k_folders, "official"),
    ("flickr8k", flickr8k_nested, "official"),
    ("flickr8k", flickr8k_karpathy, "official"),
    ("flickr30k", flickr30k_kaggle, "random"),
    ("flickr30k", flickr30k_flat, "random"),
    ("flickr30k", flickr30k_numbered, "random"),
    ("flickr30k", flickr30k_original, "official"),
    ("flickr30k", flickr30k_karpathy, "official"),
    ("flickr30k", flickr30k_hub, "official"),
    ("coco", coco_2014, "official"),
    ("coco", coco_2017, "official"),
    ("coco", coco_2017_kaggle, "official"),
    ("coco", coco_2014_images, "official"),
    ("coco", coco_karpathy, "official"),
    ("coco", coco_karpathy_beside_official, "official"),
    ("coco", coco_karpathy_in_one_folder, "official"),
]


@pytest.mark.parametrize(("name", "layout", "split"), LAYOUTS, ids=[f"{row[0]}-{row[1].__name__}" for row in LAYOUTS])
def test_a_preset_reads_every_photo_and_caption(
    name: str, layout: Callable[[Path], None], split: str, elsewhere: Path
) -> None:
    layout(elsewhere / "data" / name)
    data = load_config(ROOT / "configs" / f"{name}.yaml").data
    samples, official = read_sources(data), official_splits(data)
    assert len(samples) == COUNT * (2 if name == "coco" and "beside" not in layout.__name__ else 1)
    assert {sample.captions for sample in samples} == {tuple(CAPTIONS)}
    for sample in samples:
        assert decode_image(sample.path.read_bytes(), sample.path).shape == (12, 16, 3)
    assert bool(official) == (split == "official")
    parts = split_images(samples, data, official)
    assert len(parts) == len(samples)
    has_test = name != "challenge" and layout not in (coco_2014, coco_2017, coco_2017_kaggle, coco_2014_images)
    assert set(parts.values()) == {"train", "val", *(["test"] if has_test else [])}


@pytest.mark.parametrize("layout", [challenge, open_challenge])
def test_the_sweep_of_the_challenge_ends_with_its_submission(layout: Callable[[Path], None], elsewhere: Path) -> None:
    layout(elsewhere / "data" / "challenge")
    (elsewhere / "configs").symlink_to(ROOT / "configs")
    sweep = load_sweep(ROOT / "sweeps" / "challenge.yaml")
    assert [sample.name for sample in find_images(sweep.predict)] == [f"{i:010d}" for i in range(104, 99, -1)]
    assert all(sample.path.is_file() for sample in find_images(sweep.predict))
    assert sweep.output == "submissions/challenge.csv"
    final, base = trial_config(sweep, sweep.final), load_config("configs/challenge.yaml")
    assert (final.train.epochs, final.train.self_critical) == (base.train.epochs, base.train.self_critical)
    assert (final.generate, final.data.captions_per_photo) == (base.generate, base.data.captions_per_photo)


@pytest.mark.parametrize("name", ["challenge", "challenge_large", "flickr8k", "flickr30k", "coco"])
def test_a_preset_needs_no_file_of_weights(name: str) -> None:
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    assert config.model.backbone.weights == "imagenet"
    assert config.train.epochs % config.train.eval_every == 0


def test_the_large_preset_trains_every_layer_of_a_small_swin() -> None:
    tiny = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 1, 1], "img_size": 64, "window_size": 2}
    small = {"model.backbone.weights": "none", "model.backbone.options": tiny}
    config = load_config(ROOT / "configs" / "challenge_large.yaml", small)
    model = MultitaskModel(config.model, Backbone(config.model.backbone), vocabulary=20)
    with torch.autocast("cpu", torch.bfloat16):
        features = model.backbone(torch.rand(2, 3, 64, 64))
    (features.grid.float().square().mean() + features.levels.float().square().mean()).backward()
    trained = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
    assert len(trained) > 50
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)
