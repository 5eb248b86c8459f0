"""A backbone from one new file, trained and used by the commands. docs/extending.md shows the file."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import src.models.backbones
from src.common.errors import UserError
from src.common.plugins import VARIABLE
from src.config.schema import BackboneConfig
from src.models.backbones.base import Backbone
from src.predict import main as predict
from src.train import main as train
from tests.training.test_run import experiment

FILES = Path(__file__).parents[2] / "fixtures/plugins/models/backbones"


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of SRC_PLUGINS with the file; its module is forgotten afterwards."""
    monkeypatch.setattr(src.models.backbones, "__path__", list(src.models.backbones.__path__))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "plugins"))
    shutil.copytree(FILES, tmp_path / "plugins/models/backbones")
    yield
    sys.modules.pop("src.models.backbones.stripes", None)


def test_its_grid_and_statistics() -> None:
    backbone = Backbone(BackboneConfig(name="stripes/16", weights="none"))
    features = backbone(torch.rand(2, 3, 64, 96))
    assert features.grid.shape == (2, 4 * 6, 16)
    assert features.levels.shape == (2, 2 * (8 + 16))


def test_it_trains_and_predicts(elsewhere: Path) -> None:
    base = experiment(elsewhere, epochs=1, checkpoint_steps=0)
    backbone = {"name": "stripes/8", "weights": "none", "options": {}}
    Path("mine.yaml").write_text(yaml.safe_dump({"include": base.name, "model": {"backbone": backbone}}))
    assert train(["--config", "mine.yaml"]) == 0
    assert predict(["--model", "tiny", "--data", "data/train", "--output", "mine.csv"]) == 0


def test_a_number_of_channels_that_is_none() -> None:
    with pytest.raises(UserError, match=r"^model\.backbone: stripes/many cannot be made"):
        Backbone(BackboneConfig(name="stripes/many", weights="none"))
