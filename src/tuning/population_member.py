"""One trial of population based training: its parts between two exchanges, each in a process of Ray's.

A trial's checkpoint holds the schedule that led to it, so that weights and schedule never differ. At an exchange, the
trial copies its checkpoints aside, where a worse trial takes them from. Held by tests/tuning/test_population.py.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from ray import tune
from ray.tune import Checkpoint as RayCheckpoint

from src.common.file_locks import file_lock
from src.common.files import atomic_write, partial_folder, write_text
from src.common.ray_cluster import enter_working_folder
from src.config.schema import TrainConfig
from src.tracking.run_folder import RunFolder
from src.tracking.run_lock import wait_until_free
from src.training.optimizer import parameter_groups
from src.training.run import train
from src.training.trainer import TrackerLogger
from src.tuning.search_space import short_names
from src.tuning.sweep_config import SweepConfig, trial_config
from src.tuning.trial import TuneReport

EXCHANGE = "exchange-"  # folders of checkpoints/ that hold the checkpoints of an epoch
SOURCE = "source.json"  # in Ray's checkpoint: the run whose checkpoints a trial continues from


class PopulationReport(TuneReport, Checkpoint):
    """Reports to Ray once an epoch's checkpoint is written, and keeps the schedule of the values.

    A Checkpoint, since Lightning calls these last.

    Args:
        folder: the trial's.
        values: the trial's now, by config key.
        tags: for MLflow.
        interval: epochs between two exchanges.
        train: the trial's settings now.

    Attributes:
        schedule: the run, the first epoch and the values of each part of the training so far.
    """

    def __init__(
        self, folder: RunFolder, values: dict[str, Any], tags: dict[str, str], interval: int, train: TrainConfig
    ) -> None:
        super().__init__([], values, tags)
        self.folder, self.interval, self.train = folder, interval, train
        self.schedule: list[dict[str, Any]] = []

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Puts the values of now in the place of the checkpoint's, before the optimiser is restored."""
        set_rates(checkpoint, parameter_groups(pl_module.model, self.train))  # type: ignore[arg-type]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds a part to the schedule where the run or a value is a new one."""
        part = {"run": self.folder.path.name, "epoch": trainer.current_epoch, "values": self.values}
        if not self.schedule or any(self.schedule[-1][key] != part[key] for key in ("run", "values")):
            self.schedule.append(part)
        if isinstance(trainer.logger, TrackerLogger):
            short = short_names(list(self.values))
            numbers = {f"search/{short[k]}": v for k, v in self.values.items() if isinstance(v, int | float)}
            trainer.logger.tracker.log_metrics(numbers, trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: the checkpoint of the epoch is not written yet."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports after each epoch with an evaluation, but the last; at an exchange with the checkpoints."""
        epoch = trainer.current_epoch + 1
        if epoch % self.train.eval_every or epoch >= self.train.epochs:
            return
        score = self.update_best(trainer)["selected"]
        if epoch % self.interval:
            report_member(self.best["selected"], score, epoch)
            return
        save_exchange(self.folder, epoch)
        with TemporaryDirectory() as place:
            write_text(Path(place) / SOURCE, json.dumps({"run": self.folder.path.name}))
            checkpoint = RayCheckpoint.from_directory(place)
            report_member(self.best["selected"], score, epoch, exchange=epoch, checkpoint=checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """The best scores and the schedule, for the checkpoint."""
        return super().state_dict() | {"schedule": self.schedule}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes both up again."""
        super().load_state_dict(state)
        self.schedule = state["schedule"]


def report_member(best: float, score: float, epoch: int, exchange: int = 0, checkpoint: Any = None) -> None:
    """Reports to Ray. Trials are compared by `score`, the latest one, where `exchange` is the epoch of an exchange."""
    tune.report({"selected": best, "score": score, "epoch": epoch, "exchange": exchange}, checkpoint=checkpoint)


def set_rates(checkpoint: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    """Gives a Lightning checkpoint the peak learning rates and weight decays of an optimiser's parameter groups.

    Each group's learning rate stays the same part of its peak.
    """
    for state in checkpoint["optimizer_states"]:
        for group, fresh in zip(state["param_groups"], groups, strict=True):
            group["lr"] *= fresh["lr"] / group["initial"]
            group |= {"initial": fresh["lr"], "weight_decay": fresh["weight_decay"]}
            if "initial_lr" in group:
                group["initial_lr"] = fresh["lr"]
    for state in checkpoint["lr_schedulers"]:
        if "base_lrs" in state:
            state["base_lrs"] = [group["lr"] for group in groups]


def run_member(values: dict[str, Any], sweep: SweepConfig, names: list[str], runs: str, parent: str, home: str) -> None:
    """Trains a trial until Ray pauses it, or to its end.

    Args:
        values: the trial's now.
        sweep: its sweep.
        names: of all trials' runs, in Ray's order.
        runs: folder of run folders.
        parent: MLflow's id of the sweep's run.
        home: the driver's current folder.
    """
    enter_working_folder(home)
    config = trial_config(sweep, values)
    config.track.name, config.track.parent, config.train.runs = member_name(names), parent, runs
    config.train.threads = config.train.threads or max(1, int(sweep.resources.cpu))
    folder = RunFolder(Path(runs) / config.track.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    interval = sweep.pbt.interval * config.train.eval_every
    with file_lock(folder.path / ".trial.lock"):
        wait_until_free(folder.path)  # by the process of an earlier part
        if not folder.result.exists():
            take_over_checkpoint(folder)
            (folder.path / "config.json").unlink(missing_ok=True)  # the values have changed
        report = PopulationReport(folder, values, {"sweep": sweep.name}, interval, config.train)
        selected = train(config, extra_callbacks=[report])["selected"]
    report_member(selected, selected, config.train.epochs)


def member_name(names: list[str]) -> str:
    """The run name of this process's trial; Ray numbers trials in the order of their points: 2f1e_00001."""
    return names[int(tune.get_context().get_trial_id().rpartition("_")[2])]


def save_exchange(folder: RunFolder, epoch: int) -> None:
    """Copies a run's checkpoints aside, and removes those of exchanges before the last one."""
    place = folder.checkpoint.parent
    with partial_folder(place / f"{EXCHANGE}{epoch:06}") as part:
        for file in filter(Path.exists, (folder.checkpoint, folder.best)):
            shutil.copyfile(file, part / file.name)
        shutil.rmtree(place / f"{EXCHANGE}{epoch:06}", ignore_errors=True)
        part.rename(place / f"{EXCHANGE}{epoch:06}")
    for old in sorted(place.glob(f"{EXCHANGE}*"))[:-2]:
        shutil.rmtree(old)


def take_over_checkpoint(folder: RunFolder) -> None:
    """Puts the newest checkpoints of the run that Ray names in the place of a run's, where it is another run."""
    if (checkpoint := tune.get_checkpoint()) is None:
        return
    with checkpoint.as_directory() as place:
        source = json.loads((Path(place) / SOURCE).read_text(encoding="utf-8"))["run"]
    if source == folder.path.name:
        return
    newest = max((folder.path.parent / source / "checkpoints").glob(f"{EXCHANGE}*"))
    folder.best.unlink(missing_ok=True)
    for file in sorted(newest.iterdir()):  # last.ckpt after best.ckpt
        with atomic_write(folder.checkpoint.parent / file.name) as part:
            shutil.copyfile(file, part)


def read_schedule(file: Path) -> tuple[list[dict[str, Any]], int]:
    """The schedule that led to a checkpoint, and its number of epochs; empty where no population trained it."""
    if not file.exists():
        return [], 0
    state = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
    return state["callbacks"].get(PopulationReport.__qualname__, {}).get("schedule", []), state["epoch"] + 1
