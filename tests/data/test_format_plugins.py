"""A data format of a user: one file in a folder of SRC_PLUGINS, named in YAML, read by train and evaluate."""

import json
from pathlib import Path

import pytest
import yaml

import src.evaluate
import src.prepare
import src.train
from src.common.errors import UserError
from src.common.plugins import VARIABLE
from src.config.loader import load_config
from src.config.schema import SourceConfig
from src.data.formats.base import NoOfficialSplit
from src.data.sources import challenge_sources, read_official_split, read_raw_captions, read_source
from src.tracking.run_folder import config_identity
from tests.tiny import CAPTIONS, tiny_config, write_photo

PLUGINS = Path(__file__).parents[1] / "fixtures/plugins"


@pytest.fixture
def folder(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of 24 images in the format jsonl of tests/fixtures/plugins."""
    monkeypatch.setenv(VARIABLE, str(PLUGINS))
    lines = []
    for i in range(24):
        write_photo(elsewhere / "data" / f"{i:02}.jpg", i)
        lines.append(json.dumps({"file": f"{i:02}.jpg", "mos": 3 + i % 5, "captions": [CAPTIONS[i % 4]]}))
    (elsewhere / "data/photos.jsonl").write_text("\n".join(lines) + "\n")
    return elsewhere


def test_it_is_trained_with_and_evaluated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = config_identity(tiny_config(sources=[SourceConfig(format="jsonl", path="data")]))
    tree["data"] |= {"val": 0.33, "split_dir": "cache/splits"}
    tree["train"] |= {"epochs": 1, "batch_size": 8, "threads": 1}
    Path("mine.yaml").write_text(yaml.safe_dump(tree | {"track": {"name": "mine"}}))
    assert src.prepare.main(["check", "--config", "mine.yaml"]) == 0
    assert "jsonl" in capsys.readouterr().out
    assert src.train.main(["--config", "mine.yaml"]) == 0
    assert src.evaluate.main(["--model", "mine", "--meteor", "false", "--json", "mine.json"]) == 0
    photos = json.loads(Path("mine.json").read_text())["photos"]
    assert len(photos) == 8
    assert {photo["sources"] for photo in photos} == {"jsonl"}
    assert all(photo["mos_true"] == 3 + int(photo["names"][:2]) % 5 for photo in photos)
    assert all(photo["references"] == [CAPTIONS[int(photo["names"][:2]) % 4]] for photo in photos)


def test_what_it_does_not_define_has_a_default(folder: Path) -> None:
    source = SourceConfig(format="jsonl", path="data", split="official")
    captions = read_raw_captions(source)
    assert captions == {sample.name: list(sample.captions) for sample in read_source(source)}
    with pytest.raises(NoOfficialSplit, match="format jsonl has no official split; set split: random"):
        read_official_split(source)
    assert challenge_sources([source, SourceConfig()]) == [SourceConfig()]


def test_a_trained_model_does_not_need_its_formats(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    assert challenge_sources([SourceConfig(format="jsonl"), SourceConfig()]) == [SourceConfig()]


def test_an_unknown_format_names_the_nearest(folder: Path) -> None:
    Path("mine.yaml").write_text("data: {sources: [{format: jsonll, path: data}]}")
    with pytest.raises(UserError, match=r"^data\.sources\.format: there is no jsonll; did you mean jsonl\?$"):
        read_source(load_config("mine.yaml").data.sources[0])
