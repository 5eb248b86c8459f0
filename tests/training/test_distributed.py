"""One run in two real workers of Ray Train against the same run in one process, and a worker that is killed."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file

from src.common.ray_cluster import ray_session
from src.config.loader import load_config
from src.config.schema import Config
from src.tracking.mlflow_client import tracking_uri
from src.tracking.run_registry import list_runs
from src.training.run import train
from tests.training.test_run import experiment

STEPS = 20


class Losses(Callback):
    """Writes each step's losses, as every rank knows them, and dies once at a step, where that is asked for."""

    def __init__(self, folder: Path, dies: int = -1) -> None:
        self.folder, self.dies = folder, dies

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        losses = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("train/")}
        with (self.folder / f"losses{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(losses) + "\n")
        if trainer.global_step == self.dies and trainer.global_rank and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def read(self, rank: int) -> list[dict[str, float]]:
        return [json.loads(line) for line in (self.folder / f"losses{rank}.jsonl").read_text().splitlines()]


def some_labels(photo: int, row: str) -> str:
    """A row without its comment, for every third photo, or without its mos, for every fifth of the others."""
    name, path, mos, comment = row.split(",")
    return f"{name},{path},{mos}," if photo % 3 == 0 else f"{name},{path},{mos if photo % 5 else ''},{comment}"


def make(folder: Path, name: str, **settings: Any) -> Config:
    """A config whose every loss is on and whose photos have either label, both or none in a part of a batch."""
    file = folder / "tiny.yaml"
    if not file.exists():
        experiment(folder, epochs=5, ema=0.0, clip=0.0, lr=0.01)
        table = folder / "data/train.csv"
        head, *rows = table.read_text().splitlines()
        table.write_text("\n".join([head, *(some_labels(i // 2, row) for i, row in enumerate(rows))]) + "\n")
    losses = {f"model.mos.{loss}": 0.5 for loss in ("huber", "plcc", "rank")}
    plain = {"model.mos.dropout": 0.0, "model.decoder.grid_dropout": 0.0}
    return load_config(file, {**losses, **plain, "track.name": name, **settings})


@pytest.mark.slow
def test_two_workers_learn_as_one_and_go_on_after_a_death(elsewhere: Path) -> None:
    found, logs = {}, {}
    with ray_session(tracking_uri()):
        for workers, name in ((1, "one"), (2, "two")):
            logs[workers] = Losses(elsewhere / "runs" / name, dies=7 if workers == 2 else -1)
            found[workers] = train(make(elsewhere, name, **{"train.workers": workers}), extra_callbacks=[logs[workers]])
    assert (elsewhere / "runs/two/died").exists()
    alone, first, second = logs[1].read(0), logs[2].read(0), logs[2].read(1)
    assert len(alone) == STEPS
    assert second[-STEPS + 7 :] == first[-STEPS + 7 :]  # both know the whole batch's losses
    for one, two in zip(alone[7:], first[-STEPS + 7 :], strict=True):
        assert one.keys() == two.keys()
        assert one == pytest.approx(two, abs=1e-5)
    weights = [load_file(elsewhere / f"runs/{name}/model/model.safetensors") for name in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-4, rtol=1e-3)
    answers = [json.loads((elsewhere / f"runs/{name}/answers.json").read_text()) for name in ("one", "two")]
    assert answers[0]["names"] == answers[1]["names"]
    assert answers[0]["references"] == answers[1]["references"]
    assert found[1]["captions"] == found[2]["captions"]
    for name, score in found[1]["scores"].items():
        assert found[2]["scores"][name]["value"] == pytest.approx(score["value"], abs=1e-3)
    runs = {run.name: run for run in list_runs("multitask")}
    assert {name: run.status for name, run in runs.items()} == {"one": "FINISHED", "two": "FINISHED"}
    assert runs["two"].metrics["selected"] == pytest.approx(runs["one"].metrics["selected"], abs=1e-3)
