"""Excluded photos and captions: gone from training and validation, and from nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.schema import Config, DataConfig, SourceConfig
from src.data.exclusions import read_exclusions
from src.data.fingerprint import hash_config_data
from src.data.labels import load_training_samples
from src.data.sample import Sample
from src.data.sources import load_part, official_splits, read_sources
from src.data.split import split_images
from tests.tiny import write_photo


@pytest.fixture
def data(elsewhere: Path) -> DataConfig:
    """Twenty photos with two comments each, in three parts."""
    rows = ["img_name,img_path,mos,comments"]
    for i in range(20):
        write_photo(Path(f"set/train/{i:02}.jpg"), i)
        rows += [f'{i:02},./train/{i:02}.jpg,{i / 3:.2f},"number {i}, {text}"' for text in ("sharp", "dark")]
    Path("set/train.csv").write_text("\n".join(rows) + "\n")
    return DataConfig([SourceConfig(path="set", name="s")], val=0.25, test=0.25, split_dir="splits")


def names(data: DataConfig) -> dict[str, list[str]]:
    return {part: [s.name for s in load_part(Config(data), part)] for part in ("train", "val", "test")}


def test_a_list_of_names_leaves_the_split_of_the_others_and_the_test_part_alone(
    data: DataConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(data)
    out = [before["train"][0], before["val"][1], before["test"][2]]
    Path("out.txt").write_text("\n".join([*out, ""]))
    excluding = replace(data, exclude="out.txt")
    after = names(excluding)
    assert after == {
        "train": before["train"][1:],
        "val": [name for name in before["val"] if name != out[1]],
        "test": before["test"],
    }
    assert capsys.readouterr().err == (
        "data.exclude: out.txt leaves out 2 photos (1 train, 1 val) and 0 training captions\n"
    )
    assert len(list(Path("splits").glob("seed0_*.csv"))) == 1
    assert hash_config_data(excluding) != hash_config_data(data)


def test_a_row_with_a_caption_leaves_out_that_training_caption_alone(data: DataConfig) -> None:
    before = names(data)
    train, val = before["train"][3], before["val"][0]
    rows = [f'{name},misfit,"number {int(name)}, dark",s' for name in (train, val)]
    Path("audit.csv").write_text("\n".join(["img_name,kind,caption,source", *rows]) + "\n")
    excluding = replace(data, exclude="audit.csv")
    assert names(excluding) == before
    captions = {sample.name: sample.captions for sample in load_training_samples(Config(excluding))}
    assert captions.pop(train) == (f"number {int(train)}, sharp",)
    assert {len(texts) for texts in captions.values()} == {2}
    assert next(len(s.captions) for s in load_part(Config(excluding), "val") if s.name == val) == 2
    assert hash_config_data(excluding) != hash_config_data(data)


def test_a_name_counts_in_every_source_without_a_column_source(tmp_path: Path) -> None:
    samples = [Sample(tmp_path / "x", "x", source, None, ("a",)) for source in "ab"]
    (tmp_path / "l.txt").write_text("x\n")
    (tmp_path / "t.csv").write_text("source,img_name\nb,x\n")
    for file, keys in (("l.txt", {("a", "x"), ("b", "x")}), ("t.csv", {("b", "x")})):
        assert read_exclusions(DataConfig(exclude=str(tmp_path / file)), samples).images == keys


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("l.txt", "00\nfoo\n", "line 2: no source has photo foo; correct"),
        ("t.csv", "img_name,source\n00,t\n", "row 2: no source t has photo 00; correct"),
        ("t.csv", "img_name,caption\n00,blue\n", "row 2: no source has photo 00 with the caption 'blue'; correct"),
        ("t.csv", "name\n00\n", "has no column img_name"),
        ("absent.txt", None, "cannot be read"),
    ],
)
def test_what_no_table_has_is_refused(data: DataConfig, file: str, text: str | None, message: str) -> None:
    if text:
        Path(file).write_text(text)
    config = replace(data, exclude=file)
    with pytest.raises(UserError, match=message):
        split_images(read_sources(config), config, official_splits(config))


def test_pairs_of_a_leaking_split_go_by_the_name_of_their_photo(data: DataConfig) -> None:
    Path("out.txt").write_text("07\n")
    sources = [replace(data.sources[0], split="leaking_pairs")]
    config = replace(data, sources=sources, exclude="out.txt", test=0.0)
    parts = split_images(read_sources(config), config, {})
    assert sorted({name[:2] for _, name in parts}) == [f"{i:02}" for i in range(20) if i != 7]
