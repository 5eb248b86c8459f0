"""What makes two runs the same."""

import json
from pathlib import Path

import pytest

from src.config import Config
from src.errors import UserError
from src.learning.run import RunFolder


def test_a_run_made_before_a_setting_was_there_goes_on_with_its_default(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path), Config()
    config.train.epochs = 7
    folder.open(config)
    kept = json.loads((tmp_path / "config.json").read_text())
    del kept["train"]["self_critical"]["reward"], kept["model"]["mos"], kept["train"]["ema"]
    (tmp_path / "config.json").write_text(json.dumps(kept))
    folder.open(config)
    config.train.self_critical.reward.bleu_4 = 1.0
    with pytest.raises(UserError, match=r"another config \(train.self_critical.reward.bleu_4\); choose another"):
        folder.open(config)


def test_where_and_on_how_many_processors_a_run_runs_does_not_matter(tmp_path: Path) -> None:
    config = Config()
    RunFolder(tmp_path).open(config)
    config.train.threads, config.train.cpus, config.train.workers, config.data.cache_dir = 3, 2.0, 2, "elsewhere"
    assert RunFolder(tmp_path).changed(config) == []
    config.train.lr *= 2
    assert RunFolder(tmp_path).changed(config) == ["train.lr"]
