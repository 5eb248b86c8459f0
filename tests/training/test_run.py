"""Training through the command itself, on tiny photos: resuming after a kill, bad losses, single heads."""

import json
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from safetensors.torch import load_file

from src.common.errors import UserError
from src.tracking.run_folder import config_identity, differing_keys, run_name
from src.tracking.run_log import read_metrics
from src.tracking.run_registry import list_runs
from src.train import main
from tests.tiny import CAPTIONS, tiny_config, write_photo

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parents[2]
PHOTOS = 24
QUALITY = ("--model.decoder.enabled", "false")


def make_data(folder: Path) -> None:
    """A challenge folder whose photos carry mos and two comments each."""
    rows = ["img_name,img_path,mos,comments"]
    for i in range(PHOTOS):
        write_photo(folder / "train" / f"{i:04}.jpg", i)
        rows += [f"{i:04},./train/{i:04}.jpg,{3 + i % 5},{CAPTIONS[(i + j) % 4]}" for j in range(2)]
    (folder / "train.csv").write_text("\n".join(rows) + "\n")


def experiment(folder: Path, **train: object) -> Path:
    """An experiment's file on tiny data, live pixels with dropout, four steps an epoch."""
    make_data(folder / "data")
    path = folder / "tiny.yaml"
    tree = config_identity(tiny_config())
    tree["data"] |= {"val": 0.33, "split_dir": "cache/splits"}
    tree["model"]["decoder"]["grid_dropout"] = 0.3
    tree["train"] |= {"epochs": 3, "batch_size": 4, "threads": 1, "ema": 0.9, "checkpoint_steps": 1, **train}
    path.write_text(yaml.safe_dump(tree | {"track": {"name": "tiny"}}))
    return path


def run(folder: Path, *more: str) -> subprocess.Popen:
    """The training command in a process of its own."""
    command = [sys.executable, "-m", "src.train", "--config", "tiny.yaml", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for_step(folder: Path, step: int) -> None:
    """Until the run's last checkpoint has reached a step."""
    import torch

    last, end = folder / "runs/tiny/checkpoints/last.ckpt", time.monotonic() + 400
    while time.monotonic() < end:
        if last.exists() and torch.load(last, weights_only=True)["global_step"] >= step:
            return
        time.sleep(0.02)
    raise AssertionError("no checkpoint in time")


def last_weights(folder: Path) -> "dict[str, Tensor]":
    """The weights after the last step, and their moving averages."""
    import torch

    kept = torch.load(folder / "runs/tiny/checkpoints/last.ckpt", weights_only=True)
    current = kept.get("current_model_state", {})
    return kept["state_dict"] | {f"current.{name}": value for name, value in current.items()}


def test_a_killed_run_ends_with_the_weights_of_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        experiment(folder, self_critical={"epochs": 2, "ema": 0.8})  # killed within the first of these
    first = run(killed)
    wait_for_step(killed, 5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    run_id = (killed / "runs/tiny/run_id.txt").read_text()
    assert not (killed / "runs/tiny/result.json").exists(), "it was to be killed before it was done"
    half = killed / "runs/tiny/checkpoints/.last.ckpt.ab12_xyz.ckpt"  # as a kill within a save leaves one
    half.touch()
    killed = killed.rename(tmp_path / "moved")
    half = killed / half.relative_to(tmp_path / "killed")
    second = run(killed)
    monkeypatch.chdir(whole)
    assert main(["--config", "tiny.yaml"]) == 0
    output = second.communicate(timeout=400)[0].decode()
    assert second.returncode == 0, output[-3000:]
    lines = [line.partition(" ")[2] for line in output.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert lines[-1].startswith("epoch 3/3  "), output  # without a terminal, lines with times
    assert all(loss in lines[-1] for loss in ("  loss ", "  selected ", " s")), output
    assert not re.search("Tip|deprecat|Warning|GPU available", output), output
    assert (killed / "runs/tiny/run_id.txt").read_text() == run_id
    assert not half.exists()
    one, other = (load_file(folder / "runs/tiny/model/model.safetensors") for folder in (whole, killed))
    assert one.keys() == other.keys()
    assert [name for name in one if not one[name].equal(other[name])] == []
    one, other = (last_weights(folder) for folder in (whole, killed))  # the model's may be from before the kill
    assert [name for name in one if not one[name].equal(other[name])] == []


class Killed(Exception):
    """Ends a run as a kill does: nothing runs after it that would save anything."""


def cut_short(monkeypatch: pytest.MonkeyPatch, place: str, at: int, file: str, *more: str) -> None:
    """Trains until a function has been entered so many times."""
    owner, name = place.rsplit(".", 1)
    found = pkgutil.resolve_name(owner)
    whole, entered = getattr(found, name), iter(range(1, 99))

    def entering(*args: object, **settings: object) -> object:
        if next(entered) == at:
            raise Killed
        return whole(*args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(found, name, entering)
        with pytest.raises(Killed):
            main(["--config", file, *QUALITY, *more])


@pytest.mark.parametrize(
    ("place", "at", "train"),
    [
        (
            "src.training.lightning_module:MultitaskModule.training_step",
            7,
            {"checkpoint_steps": 0},
        ),  # from an epoch's end
        ("src.training.lightning_module:MultitaskModule.on_validation_epoch_end", 2, {"checkpoint_steps": 1}),
        (
            "src.training.run.finalize_run",
            1,
            {"patience": 1, "epochs": 6, "lr": 1e-6},
        ),  # early stopping had ended it
    ],
)
def test_a_run_cut_short_at_an_epochs_end_goes_on_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, at: int, train: dict[str, object]
) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        file = str(experiment(tmp_path / name, **{"ema": 0.0, **train}))
        if name == "cut":
            cut_short(monkeypatch, place, at, file)
        assert main(["--config", file, *QUALITY]) == 0
    whole, cut = (last_weights(tmp_path / name) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert [name for name in whole if not whole[name].equal(cut[name])] == []
    kept = [load_file(tmp_path / name / "runs/tiny/model/model.safetensors") for name in ("whole", "cut")]
    assert [name for name in kept[0] if not kept[0][name].equal(kept[1][name])] == []
    losses = [read_metrics(tmp_path / name / "runs/tiny/history.jsonl") for name in ("whole", "cut")]
    assert losses[0]["val/loss"] == losses[1]["val/loss"]


def test_a_finished_run_is_not_trained_again_and_another_config_is_refused(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(experiment(elsewhere, epochs=1))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert main(["--config", file]) == 0
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    result = json.loads((elsewhere / "runs/tiny/result.json").read_text())
    assert {"plcc", "cider_d", "quality"} <= result["scores"].keys()
    assert (elsewhere / "runs/tiny/model/model.safetensors").exists()
    capsys.readouterr()
    assert main(["--config", file]) == 0
    assert "already done" in capsys.readouterr().err
    [tracked] = list_runs()  # MLflow, which was away, has all that it missed
    assert json.loads((elsewhere / "runs/tiny/result.json").read_text()) == result | {"run_id": tracked.id}
    assert (tracked.status, tracked.metrics["selected"]) == ("FINISHED", result["selected"])
    with pytest.raises(UserError, match=r"another config \(train.lr\).*--again true"):
        main(["--config", file, "--train.lr", "0.5"])
    Path("data").rename("moved")
    Path(file).write_text(Path(file).read_text().replace("path: data", f"path: {elsewhere}/./moved"))
    assert main(["--config", file]) == 0
    assert "already done" in capsys.readouterr().err
    table = Path("moved/train.csv")
    table.write_text(table.read_text().replace(CAPTIONS[0], "other words"))
    Path("moved").rename("moved_again")
    Path(file).write_text(Path(file).read_text().replace("./moved", "moved_again"))
    with pytest.raises(UserError, match=r"another config \(data.sources\).*--again true"):
        main(["--config", file])


@pytest.mark.parametrize(("head", "score"), [("decoder", "plcc"), ("mos", "cider_d")])
def test_either_head_alone_is_a_config_and_broken_photos_are_left_out(elsewhere: Path, head: str, score: str) -> None:
    file = str(experiment(elsewhere, epochs=1, checkpoint_steps=0))
    for path in sorted(Path("data/train").iterdir())[::3]:  # of both parts
        path.write_bytes(path.read_bytes()[:200])
    with pytest.warns(UserWarning, match="photos cannot be read and are left out: 00") as told:
        assert main(["--config", file, f"--model.{head}.enabled", "false"]) == 0
    counts = [int(str(one.message).split()[0]) for one in told if "cannot be read" in str(one.message)]
    assert sum(counts[:2]) == PHOTOS / 3  # of training and validation
    scores = json.loads((elsewhere / "runs/tiny/result.json").read_text())["scores"]
    assert score in scores
    assert not {"plcc", "cider_d"} - {score} & scores.keys()


def test_a_loss_that_is_not_finite_names_the_photos(elsewhere: Path) -> None:
    file = str(experiment(elsewhere, precision="32", clip=0.0, warmup=0.0))
    with pytest.raises(UserError, match=r"not finite.*lower train.lr.*00\d\d, 00\d\d"):
        main(["--config", file, "--train.lr", "1e30"])


def test_a_run_without_a_name_is_named_by_its_config() -> None:
    config, other = tiny_config(), tiny_config()
    config.track.name = other.track.name = ""
    other.train.threads, other.data.workers = 7, 3  # change how, not what
    assert run_name(config) == run_name(other)
    other.train.lr *= 2
    assert run_name(config) != run_name(other)
    assert differing_keys(config_identity(config), config_identity(other)) == ["train.lr"]
