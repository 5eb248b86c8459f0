import json
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data.sources import read_official_split, read_source


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
    with pytest.raises(UserError, match="has no annotations"):
        read_source(source(tmp_path))
    file = tmp_path / "captions_val2017.json"
    for text, message in [
        ("{", "not valid json"),
        ("[]", "no list `images`"),
        ('{"images": [], "annotations": [{"image_id": 3, "caption": "x"}]}', "no COCO captions"),
        ('{"images": [{"id": 3}], "annotations": []}', "'file_name' is missing"),
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
    with pytest.raises(UserError, match="neither train nor val"):
        read_source(source(tmp_path))
