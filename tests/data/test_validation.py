import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from src.common.errors import UserError
from src.config.schema import Config, DataConfig, ModelConfig, MosConfig, SourceConfig, TokenizerConfig
from src.data.sample import Sample
from src.data.sources import official_splits, read_sources
from src.data.split import split_images
from src.data.validation import check_data, mos_problems
from src.data.validation_report import DataReport
from src.training.datamodule import DataModule

HEAD = "img_name,img_path,mos,comments\n"


CAPTIONS_ONLY = ModelConfig(mos=MosConfig(enabled=False))


def picture(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def challenge(folder: Path, rows: str = "", count: int = 12) -> DataConfig:
    """A good data set of `count` photos, and more rows."""
    (folder / "train").mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(count):
        (folder / "train" / f"p{i}.jpg").write_bytes(picture(i))
        lines.append(f"p{i},./train/p{i}.jpg,{i / 2},the photo number {i}\n")
    (folder / "train.csv").write_text(HEAD + "".join(lines) + rows, encoding="utf-8")
    return DataConfig(sources=[SourceConfig(path=str(folder))], val=0.25, split_dir=str(folder / "splits"))


def found(report: DataReport) -> dict[str, tuple[int, bool]]:
    return {problem.what: (problem.count, problem.fatal) for problem in report.problems}


def test_good_data_has_no_problems_and_right_figures(tmp_path: Path) -> None:
    config = challenge(tmp_path, "p0,./train/p0.jpg,0,another comment on it\n")
    report = check_data(Config(data=config))
    assert found(report) == {}
    assert not report.failed
    row = dict(zip(*report.contents, strict=True))
    assert row == {
        "source": "samsung",
        "photos": "12",
        "with mos": "12",
        "with captions": "12",
        "captions": "13",
        "a photo (min mean max)": "1 1.08 2",
        "train": "9",
        "val": "3",
        "test": "0",
        "no part": "0",
    }
    mos = np.arange(12) / 2
    figures = dict(zip(*report.mos, strict=True))
    assert (figures["min"], figures["max"]) == ("0.000", "5.500")
    assert figures["mean"] == f"{mos.mean():.3f}"
    assert figures["sd"] == f"{mos.std():.3f}"
    assert figures["50 %"] == f"{np.median(mos):.3f}"
    assert "no problems found" in str(report)
    assert not (tmp_path / "splits").exists()  # a check writes nothing


def test_missing_and_broken_files(tmp_path: Path) -> None:
    rows = "".join(f"m{i},./train/m{i}.jpg,5,it is not there\n" for i in range(7))
    rows += "p,./train/p.jpg,5,only a pipe\n"
    config = challenge(tmp_path, rows + "t,./train/t.jpg,5,cut in two\nn,./train/n.jpg,5,no photo at all\n")
    (tmp_path / "train" / "t.jpg").write_bytes(picture(99)[:-300])
    os.mkfifo(tmp_path / "train" / "p.jpg")
    (tmp_path / "train" / "n.jpg").write_text("<html>not found</html>")
    report = check_data(Config(data=config))
    assert found(report) == {"photos are missing": (7, True), "files are no photo or truncated": (3, True)}
    assert report.failed
    missing, broken = report.problems
    assert len(missing.examples) == 5
    assert missing.examples[0].endswith("m0.jpg")
    assert any("t.jpg (is truncated" in text for text in broken.examples)
    assert any("n.jpg (is no photo, but a web page (HTML)" in text for text in broken.examples)
    assert any("p.jpg (cannot be read (it is no regular file))" in text for text in broken.examples)
    assert missing.remedy in str(report)


def test_same_bytes_under_two_names(tmp_path: Path) -> None:
    config = challenge(tmp_path, "copy,./train/copy.jpg,9,the same once more\n")
    (tmp_path / "train" / "copy.jpg").write_bytes(picture(2))
    report = check_data(Config(data=config))
    assert found(report) == {"photos stand under several names": (1, False)}
    assert "mos 1 and 9" in report.problems[0].examples[0]
    assert not report.failed


def test_same_file_under_two_names(tmp_path: Path) -> None:
    report = check_data(Config(data=challenge(tmp_path, "again,./train/p2.jpg,9,the same once more\n")))
    assert found(report) == {"photos stand under several names": (1, False)}
    path = tmp_path / "train" / "p2.jpg"
    assert report.problems[0].examples == [f"p2 in {path} = again in {path} (mos 1 and 9)"]


def test_names_that_no_file_can_have_are_missing(tmp_path: Path) -> None:
    report = check_data(Config(data=challenge(tmp_path, "z,./train/z\0.jpg,9,a zero byte there\n")))
    assert found(report) == {"photos are missing": (1, True)}


def test_empty_captions_of_photos_that_have_others(tmp_path: Path) -> None:
    data = challenge(tmp_path, 'p0,./train/p0.jpg,0,\np0,./train/p0.jpg,0,"   "\np3,./train/p3.jpg,1.5,\n')
    report = check_data(Config(data=data))
    assert found(report) == {"captions are empty or nan": (3, False)}
    assert report.problems[0].examples == ["p0", "p0", "p3"]
    data = challenge(tmp_path, "p0,./train/p0.jpg,0,nan\nq,./train/p1.jpg,5,None\n")
    assert found(check_data(Config(data=data)))["captions are empty or nan"] == (1, False)
    (tmp_path / "flickr").mkdir()
    data = flickr(tmp_path / "flickr", {"train": ["a", "b"], "dev": ["c"], "test": ["d"]})
    table = tmp_path / "flickr" / "captions.txt"
    table.write_text(table.read_text() + "c.jpg,\n")
    assert found(check_data(Config(data=data, model=CAPTIONS_ONLY))) == {"captions are empty or nan": (1, False)}


def test_huge_photos_are_named(tmp_path: Path) -> None:
    config = challenge(tmp_path, "big,./train/big.jpg,5,it is huge indeed\n")
    code = cv2.imencode(".png", np.zeros((5001, 5000), np.uint8))[1]
    (tmp_path / "train" / "big.jpg").write_bytes(code.tobytes())
    assert found(check_data(Config(data=config))) == {"photos have over 25 million pixels": (1, False)}


def test_mos_out_of_range_and_disagreeing(tmp_path: Path) -> None:
    config = challenge(tmp_path, "p1,./train/p1.jpg,3,a second opinion here\n")
    table = (tmp_path / "train.csv").read_text().replace("p4.jpg,2.0", "p4.jpg,77").replace("p5.jpg,2.5", "p5.jpg,-1")
    (tmp_path / "train.csv").write_text(table)
    report = check_data(Config(data=config))
    assert found(report) == {
        "mos are outside 0..10": (2, False),
        "photos have rows with different mos": (1, False),
    }
    assert any("p1 (0.5 and 3)" in problem.examples for problem in report.problems)


def test_mos_that_is_not_finite_is_fatal() -> None:
    samples = [Sample(Path("x"), "a", "s", float("inf")), Sample(Path("x"), "b", "s", 5.0)]
    problems = mos_problems(samples)
    assert [(p.what, p.count, p.fatal) for p in problems if p.count] == [("mos are not finite", 1, True)]


def test_odd_captions(tmp_path: Path) -> None:
    rows = (
        "p0,./train/p0.jpg,0,blurry\n"
        f"p1,./train/p1.jpg,0.5,{'word ' * 51}\n"
        "p2,./train/p2.jpg,1,사진이 어둡다 매우\n"
        'p3,./train/p3.jpg,1.5,"two lines\nof a caption"\n'
        "p4,./train/p4.jpg,2,the photo number 4\n"
    )
    config = challenge(tmp_path, rows)
    (tmp_path / "train" / "q.jpg").write_bytes(picture(50))
    with (tmp_path / "train.csv").open("a") as file:
        file.write("q,./train/q.jpg,5,\n")
    report = check_data(Config(data=config))
    assert found(report) == {
        "photos of samsung have no captions": (1, False),
        "captions have fewer than 3 words": (1, False),
        "captions have more than 50 words": (1, False),
        "captions have letters outside ASCII": (1, False),
        "captions have control or replacement characters": (1, False),
        "photos have the same caption twice": (1, False),
    }
    assert not report.failed


def test_one_caption_for_all_is_named(tmp_path: Path) -> None:
    config = challenge(tmp_path, count=40)
    table = (tmp_path / "train.csv").read_text()
    (tmp_path / "train.csv").write_text("\n".join(line.split("the photo")[0] for line in table.splitlines()))
    text = (tmp_path / "train.csv").read_text().splitlines()
    (tmp_path / "train.csv").write_text("\n".join([text[0], *(f"{line}nice picture." for line in text[1:])]))
    report = check_data(Config(data=config))
    assert "captions stand under many photos" in found(report)
    assert "'nice picture.' (40 photos)" in str(report)


def test_no_labels_at_all_is_fatal(tmp_path: Path) -> None:
    config = challenge(tmp_path)
    (tmp_path / "train.csv").write_text("img_name\n" + "".join(f"p{i}\n" for i in range(12)))
    report = check_data(Config(data=config))
    assert found(report) == {"data set has no mos or captions": (1, True)}
    assert report.failed


def flickr(folder: Path, lists: dict[str, list[str]], twin: bool = False) -> DataConfig:
    """Four photos; with `twin`, b.jpg has a.jpg's bytes."""
    (folder / "Images").mkdir()
    for i, name in enumerate("abcd"):
        (folder / "Images" / f"{name}.jpg").write_bytes(picture(0 if twin and name == "b" else i))
    (folder / "captions.txt").write_text("image,caption\n" + "".join(f"{n}.jpg,A photo of {n} .\n" for n in "abcd"))
    for part, names in lists.items():
        (folder / f"Flickr_8k.{part}Images.txt").write_text("".join(f"{name}.jpg\n" for name in names))
    source = SourceConfig(format="flickr8k", path=str(folder), split="official")
    return DataConfig(sources=[source], split_dir=str(folder / "splits"), tokenizer=TokenizerConfig(min_count=1))


def test_official_lists_without_leaks(tmp_path: Path) -> None:
    report = check_data(Config(flickr(tmp_path, {"train": ["a", "b"], "dev": ["c"], "test": ["d"]}), CAPTIONS_ONLY))
    assert found(report) == {}
    assert report.contents[1][-4:] == ["2", "1", "1", "0"]


def test_leaks_between_official_lists(tmp_path: Path) -> None:
    report = check_data(Config(data=flickr(tmp_path, {"train": ["a", "c"], "test": ["b", "d"]}, twin=True)))
    problems = found(report)
    assert problems["photos are on two sides of an official split"] == (1, True)
    assert "a.jpg (train) = b.jpg (test)" in str(report)
    assert report.failed


def test_name_in_two_official_lists(tmp_path: Path) -> None:
    report = check_data(
        Config(flickr(tmp_path, {"train": ["a", "b"], "dev": ["b", "c"], "test": ["d"]}), CAPTIONS_ONLY)
    )
    assert found(report) == {"photos are in two official lists": (1, True)}
    assert report.failed


def test_lists_without_training_photos(tmp_path: Path) -> None:
    report = check_data(Config(data=flickr(tmp_path, {"test": ["a", "b"]})))
    assert found(report) == {
        "split has no train photos with mos or captions": (1, True),
        "split has no val photos with mos or captions": (1, True),
    }


NO_VAL = "split has no val photos with mos or captions"
NO_WORDS = "tokenizer does not go with the training captions"


@pytest.mark.parametrize(
    ("count", "options", "problem", "refusal"),
    [
        (1, {}, NO_VAL, "no labelled val photos"),
        (12, {"val": 0.0}, NO_VAL, "no labelled val photos"),
        (12, {"folds": 1000, "fold": 999}, NO_VAL, "no labelled val photos"),
        (12, {"tokenizer": TokenizerConfig(min_count=1000)}, NO_WORDS, r"data\.tokenizer\.min_count is 1000: no word"),
        (12, {"tokenizer": TokenizerConfig(kind="bpe", size=100)}, NO_WORDS, r"data\.tokenizer\.size is 100"),
    ],
)
def test_what_training_refuses_is_fatal(
    tmp_path: Path, count: int, options: dict[str, Any], problem: str, refusal: str
) -> None:
    words = {"tokenizer": TokenizerConfig(min_count=1)}
    config = Config(data=replace(challenge(tmp_path, count=count), **{**words, **options}))
    assert found(check_data(config)) == {problem: (1, True)}
    with pytest.raises(UserError, match=refusal):
        DataModule(config).dataset("val")


@pytest.mark.parametrize(
    ("column", "refusal"),
    [
        (2, r"no training photo has a mos: set model\.mos\.enabled false"),
        (3, r"no training photo has a caption: set model\.decoder\.enabled false"),
    ],
)
def test_a_head_that_nothing_teaches_is_refused(tmp_path: Path, column: int, refusal: str) -> None:
    config = Config(data=replace(challenge(tmp_path), tokenizer=TokenizerConfig(min_count=1)))
    assert found(check_data(config)) == {}
    table = tmp_path / "train.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("".join(",".join([*row[:column], *row[column + 1 :]]) + "\n" for row in rows))
    report = check_data(config)
    assert found(report) == {"head has nothing to learn from": (1, True)}
    assert re.search(refusal, str(report))
    with pytest.raises(UserError, match=refusal):
        DataModule(config)


def test_labels_count_that_the_model_learns(tmp_path: Path) -> None:
    data = flickr(tmp_path, {"train": ["x"], "dev": ["a"]})
    (tmp_path / "Images" / "x.jpg").write_bytes(picture(9))
    assert found(check_data(Config(data=data)))["split has no train photos with mos or captions"] == (1, True)
    (tmp_path / "other").mkdir()
    rated = Config(data=challenge(tmp_path / "other"), model=ModelConfig(mos=MosConfig(enabled=False)))
    assert not check_data(rated).failed
    table = tmp_path / "other" / "train.csv"
    table.write_text("".join(f"{line.rpartition(',')[0]},\n" for line in table.read_text().splitlines()))
    assert found(check_data(rated)) == {"data set has no captions": (1, True)}


def test_leak_into_a_split_on_disk(tmp_path: Path) -> None:
    config = challenge(tmp_path)
    samples = read_sources(config)
    parts = split_images(samples, config, official_splits(config))
    train, val = (next(s for s in samples if parts[s.source, s.name] == part) for part in ("train", "val"))
    train.path.write_bytes(val.path.read_bytes())
    report = check_data(Config(data=config))
    assert found(report)["photos are on two sides of the split on disk"] == (1, True)
    assert report.failed
    assert not check_data(Config(data=replace(config, split_dir=str(tmp_path / "other")))).failed


@pytest.mark.real
def test_real_data_is_good_to_train() -> None:
    from src.config.loader import load_config

    assert not check_data(load_config("configs/both.yaml")).failed
