"""BIQ2021's download in the challenge's layout; its images and tables are made here, of the real ones' form."""

import csv
import json
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.data import biq2021
from src.data.image_list import find_images
from src.data.sources import read_source
from src.prepare import main

TRAIN = [("ss01 (10).jpg", "0.4779"), ("ss03 (2).jpg", "1"), ("ss01 (1).jpg", "0.05")]
TEST = [("ss02 (7).jpg", "0.9657"), ("ss01 (3).jpg", "0")]


def table(path: Path, rows: list[tuple[str, str]], columns: tuple[str, str] = ("Image Name", "MOS")) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def download(tmp_path: Path) -> Path:
    folder = tmp_path / "archive" / "unpacked" / "BIQ2021-main"  # a zip file of the repository unpacks so
    (folder / "Images").mkdir(parents=True)
    for name, _ in TRAIN + TEST:
        (folder / "Images" / name).write_bytes(name.encode())
    table(folder / "Train (Images and MOS).csv", TRAIN)
    table(folder / "Test (Images and MOS).csv", TEST)
    return folder.parent


def convert(download: Path, *words: str) -> Path:
    output = next(path for path in download.parents if path.name == "archive").with_name("out")
    assert main(["biq2021", "--from", str(download), "--output", str(output), *words]) == 0
    return output


def test_all_photos_by_its_own_split(download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = convert(download)
    assert f"wrote {output}: 3 photos with mos, and 2 to predict\nnext: " in capsys.readouterr().out
    samples = read_source(SourceConfig(path=str(output)))
    assert [(sample.name, sample.mos) for sample in samples] == [("ss01_1", 0.5), ("ss01_10", 4.779), ("ss03_2", 10.0)]
    assert samples[1].path.read_bytes() == b"ss01 (10).jpg"
    images = find_images(str(output / "test.csv"))  # in the sample submission's order
    assert [image.name for image in images] == ["ss01_3", "ss02_7"]
    assert images[1].path.read_bytes() == b"ss02 (7).jpg"
    answers = read_source(SourceConfig(path=str(output), captions="test_answers.csv"))
    assert [(sample.name, sample.mos) for sample in answers] == [("ss01_3", 0.0), ("ss02_7", 9.657)]
    assert sorted(path.name for path in output.parent.iterdir()) == ["archive", "out"]


def test_a_subset_has_its_own_split(download: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = download / "names.json"
    names.write_text(json.dumps({"train": {"ss01": [3, 10]}, "test": {"ss03": [2]}}))
    monkeypatch.setattr(biq2021, "SUBSET", names)
    output = convert(download, "--subset", "samsung_like")
    samples = read_source(SourceConfig(path=str(output)))
    assert [(sample.name, sample.mos) for sample in samples] == [("ss01_10", 4.779), ("ss01_3", 0.0)]
    assert [image.name for image in find_images(str(output / "test.csv"))] == ["ss03_2"]
    names.write_text(json.dumps({"train": {"ss01": [3, 11]}, "test": {}}))
    with pytest.raises(UserError, match=r"lacks 1 images of samsung_like, ss01_11 for one"):
        main(["biq2021", "--from", str(download), "--subset", "samsung_like", "--output", str(output / "x")])


def test_the_list_of_samsung_like() -> None:
    parts = list(biq2021.subset_parts().values())
    assert (parts.count("train"), parts.count("test"), len(parts)) == (2600, 500, 3100)


@pytest.mark.real
def test_the_list_is_that_of_the_measured_data() -> None:
    parts = biq2021.subset_parts()
    for part in ("train", "test"):
        with Path(f"data/real/samsung_like/{part}.csv").open(encoding="utf-8") as file:
            names = [row["img_name"] for row in csv.DictReader(file)]
        assert names == sorted(name for name in parts if parts[name] == part)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("ss01 (10).jpg", "4.8")], r"Train \(Images and MOS\)\.csv: row 2: the MOS is not within 0 and 1"),
        ([("ss01 (10).jpg", "0.5"), ("ss01 (1).jpg", "")], r"row 3: the MOS is not within 0 and 1"),
        ([("ss01 (10).jpg", "0.5"), ("ss01 (10).jpg", "0.5")], r"ss01 \(10\)\.jpg is named twice"),
        ([("ss09 (1).jpg", "0.5")], r"Images: lacks 1 images of the tables, ss09 \(1\)\.jpg for one"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_written(
    download: Path, tmp_path: Path, rows: list[tuple[str, str]], message: str
) -> None:
    table(download / "BIQ2021-main" / "Train (Images and MOS).csv", rows)
    with pytest.raises(UserError, match=message):
        convert(download)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive"]


def test_what_the_download_lacks_is_named(download: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="out: is there already; delete it, or name another with --output"):
        convert(download)
    (tmp_path / "out").rmdir()
    table(download / "BIQ2021-main" / "Test (Images and MOS).csv", TEST, ("Image Name", "score"))
    with pytest.raises(UserError, match=r"has no column mos \(it has image_name, score\)"):
        convert(download)
    (download / "BIQ2021-main" / "Test (Images and MOS).csv").unlink()
    with pytest.raises(UserError, match=r"has no Test \(Images and MOS\)\.csv"):
        convert(download)
    (download / "BIQ2021-main" / "Images").rename(download / "BIQ2021-main" / "Photos")
    with pytest.raises(UserError, match="has no folder Images"):
        convert(download)
    with pytest.raises(UserError, match="no such folder"):
        convert(tmp_path / "archive" / "absent")
