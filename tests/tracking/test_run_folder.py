"""What makes two runs the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.schema import Config, DataConfig, SourceConfig
from src.tracking.run_folder import RunFolder, hash_weights


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


def begin(folder: RunFolder, **tags: str) -> None:
    """Notes in a folder's log that its run began."""
    folder.history.write_text(json.dumps({"call": "begin", "tags": tags}) + "\n")


def test_a_run_goes_on_with_the_same_data_and_weights_in_another_place(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path), Config(data=DataConfig(sources=[SourceConfig(path="wrong")]))
    config.model.backbone.weights = "wrong.pth"
    folder.open(config)
    (tmp_path / "x.pth").write_text("weights")
    config.data.sources[0].path, config.model.backbone.weights = "right", str(tmp_path / "x.pth")
    folder.open(config)  # no run began with the wrong places
    begin(folder, weights_hash=hash_weights(config))
    (tmp_path / "x.pth").rename(tmp_path / "y.pth")
    config.model.backbone.weights = str(tmp_path / "y.pth")
    assert folder.changed(config) == []
    (tmp_path / "y.pth").write_text("other weights")
    assert folder.changed(config) == ["model.backbone.weights"]
    config.model.backbone.weights = "imagenet"
    assert folder.changed(config) == ["model.backbone.weights"]
    config.data.sources[0].split = "official"
    assert folder.changed(config) == ["data.sources", "model.backbone.weights"]


def test_a_run_goes_on_with_the_data_that_it_began_with(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.check_data("new")
    begin(folder, data_hash="0123456789")
    folder.check_data("0123456789")
    with pytest.raises(UserError, match=r"began on other data \(names, labels or parts: 01234567, now 99999999\)"):
        folder.check_data("9999999999")


def test_a_run_that_is_being_trained_is_not_thrown_away(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.open(Config())
    folder.model.mkdir()
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / ".tracking.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(UserError, match="another process works on this run"):
            folder.open(Config(), again=True)
        assert folder.model.exists()
        other.communicate("\n")
    inode = (tmp_path / ".tracking.lock").stat().st_ino
    folder.open(Config(), again=True)
    assert {path.name for path in tmp_path.iterdir()} == {".tracking.lock", "config.json"}
    assert (tmp_path / ".tracking.lock").stat().st_ino == inode


def test_a_checkpoint_that_a_kill_cut_short_is_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.tidy()  # a new run has no checkpoints yet
    code = (
        "import os, sys; from pathlib import Path; from src.common.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as part: part.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder.checkpoint)], check=False)
    assert len(list(folder.checkpoint.parent.iterdir())) == 1
    kept = {"last.ckpt", "best.ckpt", ".last.ckpt", ".hidden.file"}
    for name in kept:
        (folder.checkpoint.parent / name).touch()
    folder.tidy()
    assert {path.name for path in folder.checkpoint.parent.iterdir()} == kept
