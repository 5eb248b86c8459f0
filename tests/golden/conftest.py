"""A folder with demo data, submissions and small models, the current folder of all golden tests."""

import shutil
from pathlib import Path

import pytest

from src.config.schema import Config, GenerationConfig, SourceConfig
from src.prepare import main as prepare
from tests.golden.golden import INPUTS, set_weights
from tests.tiny import make_model, tiny_config

STYLES = ("challenge", "flickr8k")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demo data in data/, stored submissions in submissions/, and the folders of three small models.

    These are first, second, and unflipped: the weights of first without flip averaging.
    """
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert prepare(["demo", "--output", "data", "--photos", "50"]) == 0
        for name, weights in (("first", "first"), ("second", "second"), ("unflipped", "first")):
            config = small_config(flip=name != "unflipped")
            make_model(folder / name, config, STYLES, mos_percentiles=[2.0, 4.0, 5.0, 6.0, 9.0])
            set_weights(folder / name, weights)
        shutil.copytree(INPUTS / "submissions", folder / "submissions")
    return folder


@pytest.fixture(autouse=True)
def inside(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test in the folder, with terminal width and tracking server of no machine."""
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def small_config(flip: bool) -> Config:
    """Both demo sources and both heads; captions attend to a grid of 3 x 3 places."""
    sources = [
        SourceConfig(format="samsung", path="data/challenge", name=STYLES[0]),
        SourceConfig(format="flickr8k", path="data/flickr8k", name=STYLES[1], split="official"),
    ]
    config = tiny_config(sources=sources)
    config.data.caption_size, config.data.mos_size, config.data.val, config.data.flip = 96, 64, 0.3, flip
    config.model.backbone.options = {"channels": [8, 8, 8, 16]}
    config.generate = GenerationConfig(beam=3, max_length=8)
    return config
