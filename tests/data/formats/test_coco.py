import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.common.errors import UserError
from src.config.schema import DataConfig, SourceConfig
from src.data.formats.base import NoOfficialSplit
from src.data.sources import official_splits, read_official_split, read_source


def official(folder: Path, part: str, photos: dict[str, list[str]]) -> None:
    """An annotation file in COCO's own form, annotations not in the photos' order."""
    images = [{"id": 100 + i, "file_name": name} for i, name in enumerate(photos)]
    notes = [
        {"image_id": image["id"], "id": 7, "caption": text}
        for image in images
        for text in photos[str(image["file_name"])]
    ]
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / f"captions_{part}.json").write_text(
        json.dumps({"info": {}, "images": images, "annotations": notes[::-1]})
    )


def source(folder: Path, **options: str) -> SourceConfig:
    return SourceConfig(format="coco", path=str(folder), split="official", **options)  # type: ignore[arg-type]


def test_official_annotations(tmp_path: Path) -> None:
    official(tmp_path, "train2017", {"0001.jpg": ["A dog.\n", "Dog runs"], "0002.jpg": []})
    official(tmp_path, "val2017", {"0003.jpg": ["  A cat. "]})
    where = source(tmp_path)
    samples = read_source(where)
    assert [sample.name for sample in samples] == ["train2017/0001.jpg", "train2017/0002.jpg", "val2017/0003.jpg"]
    assert samples[0].path == tmp_path / "train2017" / "0001.jpg"
    assert [set(sample.captions) for sample in samples] == [{"A dog.", "Dog runs"}, set(), {"A cat."}]
    parts = ["train", "train", "val"]
    assert read_official_split(where) == dict(zip([s.name for s in samples], parts, strict=True))


def test_photos_in_a_folder_of_images_and_one_file_only(tmp_path: Path) -> None:
    official(tmp_path, "train2017", {"0001.jpg": ["A dog."]})
    official(tmp_path, "val2017", {"0003.jpg": ["A cat."]})
    (tmp_path / "images").mkdir()
    (sample,) = read_source(source(tmp_path, captions="annotations/captions_val2017.json"))
    assert sample.path == tmp_path / "images" / "val2017" / "0003.jpg"
    (tmp_path / "elsewhere").mkdir()
    (sample,) = read_source(source(tmp_path, captions="annotations/captions_val2017.json", images="elsewhere"))
    assert sample.path == tmp_path / "elsewhere" / "val2017" / "0003.jpg"


def test_two_years_at_once_are_refused(tmp_path: Path) -> None:
    official(tmp_path, "val2014", {"a.jpg": ["A dog."]})
    official(tmp_path, "val2017", {"a.jpg": ["A dog."]})
    with pytest.raises(UserError, match="2014 and 2017"):
        read_source(source(tmp_path))
    assert len(read_source(source(tmp_path, captions="annotations/captions_*2017.json"))) == 1


def test_karpathys_json(tmp_path: Path) -> None:
    images = [
        {"filepath": "val2014", "filename": "x.jpg", "split": part, "sentences": [{"raw": f"{part} ."}]}
        for part in ("test", "restval", "val")
    ]
    for number, image in enumerate(images):
        image["filename"] = f"{number}.jpg"
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"dataset": "coco", "images": images}))
    where = source(tmp_path)
    samples = read_source(where)
    assert [sample.name for sample in samples] == ["val2014/0.jpg", "val2014/1.jpg", "val2014/2.jpg"]
    assert [sample.captions for sample in samples] == [("test .",), ("restval .",), ("val .",)]
    assert list(read_official_split(where).values()) == ["test", "train", "val"]


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no dataset_coco.json or annotations/"):
        read_source(source(tmp_path))
    file = tmp_path / "captions_val2017.json"
    for text, message in [
        ("{", "not valid json"),
        ("[]", "no list `images`"),
        ('{"images": [], "annotations": [{"image_id": 3, "caption": "x"}]}', "an annotation is of image_id 3, which"),
        ('{"images": [{"id": 3}], "annotations": []}', "'file_name' is missing"),
        ('{"images": [{"id": 3, "file_name": 7}], "annotations": []}', "no object with a text `file_name`"),
        (
            '{"images": [{"id": 3, "file_name": "a"}, {"id": "3", "file_name": "b"}], "annotations": []}',
            "two images have the id 3",
        ),
        (
            '{"images": [{"id": 3, "file_name": "a"}], "annotations": [{"image_id": 3, "caption": null}]}',
            "a caption of val2017/a has no text under 'caption'",
        ),
    ]:
        file.write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            read_source(source(tmp_path))
        assert "captions_val2017.json" in str(caught.value)
    file.write_text('{"images": [{"id": 3}], "annotations": []}')
    with pytest.raises(UserError, match="'file_name' is missing"):
        read_official_split(source(tmp_path))
    file.rename(tmp_path / "captions_all.json")
    (tmp_path / "captions_all.json").write_text('{"images": [{"id": 1, "file_name": "a"}], "annotations": []}')
    with pytest.raises(NoOfficialSplit, match="neither train nor val"):
        read_official_split(source(tmp_path))


def photos(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write(folder: Path, name: str, **content: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("written", ["train2017/", "./train2017/", "train2017\\", "/home/me/coco/train2017/"])
@pytest.mark.parametrize("place", ["train2017", "images/train2017", "train2017/train2017", "images", "."])
def test_folder_in_the_file_name_is_not_doubled(tmp_path: Path, written: str, place: str) -> None:
    photos(tmp_path, f"{place}/0001.jpg")
    official(tmp_path, "train2017", {f"{written}0001.jpg": ["A dog."]})
    (sample,) = read_source(source(tmp_path))
    assert sample.path == tmp_path / place / "0001.jpg"
    assert sample.name == written.removeprefix("./").replace("\\", "/").lstrip("/") + "0001.jpg"
    assert set(read_official_split(source(tmp_path)).values()) == {"train"}


@pytest.mark.parametrize(("image", "note"), [("7", 7), (7, "7"), ("000000000007", 7), (7.0, 7), ("seven", "seven")])
def test_ids_are_numbers_or_text(tmp_path: Path, image: object, note: object) -> None:
    images = [{"id": image, "file_name": "a.jpg"}, {"id": 0, "file_name": "b.jpg"}]
    notes = [{"image_id": note, "caption": "A dog."}, {"image_id": "0", "caption": "A cat."}]
    write(tmp_path, "captions_val2017.json", images=images, annotations=notes)
    assert [sample.captions for sample in read_source(source(tmp_path))] == [("A dog.",), ("A cat.",)]


@pytest.mark.parametrize("name", ["captions_test2017.json", "image_info_test2017.json", "image_info_test-dev2017.json"])
def test_a_test_file_has_no_annotations(tmp_path: Path, name: str) -> None:
    official(tmp_path, "train2017", {"0001.jpg": ["A dog."]})
    write(tmp_path, f"annotations/{name}", images=[{"id": 1, "file_name": "0002.jpg"}])
    photos(tmp_path, "test2017/0002.jpg")
    where = source(tmp_path, captions="annotations/*2017.json")
    samples = {sample.name: sample for sample in read_source(where)}
    assert read_official_split(where) == {"train2017/0001.jpg": "train", "test2017/0002.jpg": "test"}
    assert samples["test2017/0002.jpg"].captions == ()
    assert samples["test2017/0002.jpg"].path == tmp_path / "test2017" / "0002.jpg"


@pytest.mark.parametrize("name", ["my_captions.json", "annotations/all.json", "annotations/latest_evaluation.json"])
@pytest.mark.parametrize("place", ["images", ".", "train2017", "pictures"])
def test_a_name_that_tells_no_part_is_split_at_random(
    tmp_path: Path, name: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(tmp_path, f"{place}/a.jpg")
    notes = [{"image_id": 1, "caption": "A dog."}]
    write(tmp_path, name, images=[{"id": 1, "file_name": "a.jpg"}], annotations=notes)
    where = replace(source(tmp_path), split="auto")
    (sample,) = read_source(where)
    assert (sample.name, sample.captions, sample.path) == ("a.jpg", ("A dog.",), tmp_path / place / "a.jpg")
    assert official_splits(DataConfig([where])) == {}
    assert "coco is split at random, always the same way: " in capsys.readouterr().err


@pytest.mark.parametrize("place", ["train2014", "images", "images/train2014", "all", "."])
def test_karpathys_json_with_all_images_in_one_folder(tmp_path: Path, place: str) -> None:
    names = ["COCO_train2014_000000000009.jpg", "COCO_val2014_000000000042.jpg"]
    photos(tmp_path, *(f"{place}/{name}" for name in names))
    images = [
        {"filepath": name[5:-17], "filename": name, "split": part, "sentences": [{"raw": "A dog."}]}
        for name, part in zip(names, ("train", "test"), strict=True)
    ]
    write(tmp_path, "annotations/dataset_coco.json", dataset="coco", images=images)
    official(tmp_path, "val2014", {names[1]: ["A cat."]})
    samples = read_source(source(tmp_path))
    assert [sample.path for sample in samples] == [tmp_path / place / name for name in names]
    assert [sample.name for sample in samples] == [f"train2014/{names[0]}", f"val2014/{names[1]}"]
    assert list(read_official_split(source(tmp_path)).values()) == ["train", "test"]


@pytest.mark.parametrize("folder", ["coco2017", "annotations_trainval2017"])
def test_archives_unpacked_into_folders_of_their_own(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "coco2017" if folder == "coco2017" else tmp_path
    photos(root, "val2017/a.jpg")
    official(tmp_path / folder, "val2017", {"a.jpg": ["A dog."]})
    (sample,) = read_source(source(tmp_path))
    assert sample.path == root / "val2017" / "a.jpg"
