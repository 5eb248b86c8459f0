"""One trial of a sweep: its training, in a process of Ray's, and its reports."""

import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from ray import train as ray_train
from ray import tune

from src.common.errors import UserError, is_out_of_memory
from src.common.file_locks import file_lock
from src.common.files import write_text
from src.common.ray_cluster import IDLE_CPUS, enter_working_folder
from src.config.schema import Config
from src.tracking.run_lock import wait_until_free
from src.training.run import train
from src.training.trainer import TrackerLogger
from src.tuning.search_space import short_names
from src.tuning.sweep_config import SweepConfig, trial_config, trial_name

HALVED = "halved.txt"  # in a trial's run folder: its memory was too small for the batch


class TuneReport(Callback):
    """Reports the scores of the best evaluation so far to Ray, so that a stopped trial is judged by its best.

    In MLflow the trial has its values as params search.NAME, and tags for the sweep and its state.

    Args:
        names: of the scores to report, beside the selected one, which decides the best evaluation.
        values: the trial's, by config key.
        tags: for MLflow.
    """

    def __init__(self, names: list[str], values: dict[str, Any], tags: dict[str, str]) -> None:
        self.names, self.values, self.tags = ["selected", *names], values, tags
        self.best = dict.fromkeys(self.names, -float("inf"))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the trial's values and its state."""
        if isinstance(trainer.logger, TrackerLogger):
            short = short_names(list(self.values))
            trainer.logger.tracker.log_params({f"search.{short[key]}": value for key, value in self.values.items()})
        self._tag(trainer, self.tags | {"status": "running"})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports after each evaluation."""
        self.update_best(trainer)
        report = tune.report if trainer.world_size == 1 else ray_train.report  # of several workers: all of them
        report({**self.best, "epoch": trainer.current_epoch + 1})

    def update_best(self, trainer: Trainer) -> dict[str, float]:
        """Takes the scores of the last evaluation for the best ones where they are, and returns them."""
        metrics = trainer.callback_metrics
        scores = {name.removeprefix("val/"): float(value) for name, value in metrics.items() if "val/" in name}
        check_scores(scores, self.names)
        if scores["selected"] > self.best["selected"]:
            self.best = {name: scores[name] for name in self.names}
        return scores

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tags the trial as finished."""
        self._tag(trainer, {"status": "finished"})

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tags the trial as stopped by the scheduler, or failed."""
        stopped = isinstance(exception, SystemExit) and not exception.code
        self._tag(trainer, {"status": "stopped" if stopped else "failed"})

    def _tag(self, trainer: Trainer, tags: dict[str, str]) -> None:
        if isinstance(trainer.logger, TrackerLogger):
            trainer.logger.tracker.set_tags(tags)

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint, so that a resumed trial goes on with its best."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the best up again."""
        self.best = state["best"]


def check_scores(scores: dict[str, float], names: list[str]) -> None:
    """Raises UserError where the name of a score to report is unknown."""
    if missing := [name for name in names if name not in scores]:
        raise UserError(f"objective: no score is called {missing[0]}; there are: {', '.join(sorted(scores))}")


def run_trial(values: dict[str, Any], sweep: SweepConfig, runs: str, parent: str, home: str) -> None:
    """Trains one trial, as a child run of the sweep's, in its own run folder; `home` is the driver's current one."""
    enter_working_folder(home)
    config = trial_config(sweep, values)
    config.track.name, config.track.parent = trial_name(sweep.name, values), parent
    config.train.runs = runs
    config.train.threads = config.train.threads or max(1, int(sweep.resources.cpu))
    config.train.workers = sweep.resources.workers
    if sweep.resources.workers > 1:  # this process waits for them, and holds a little itself
        config.train.cpus = max(IDLE_CPUS, sweep.resources.cpu - IDLE_CPUS)
    folder = Path(runs) / config.track.name
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in sweep.objective if name != "selected"]
    with file_lock(folder / ".trial.lock"):  # of two trials with the same values, the second takes the first's result
        wait_until_free(folder)  # by workers that a killed trial left behind
        result = train_within_memory(config, names, values, {"sweep": sweep.name})
    scores = {name: score["value"] for name, score in result["scores"].items()} | {"selected": result["selected"]}
    check_scores(scores, names)
    tune.report({name: scores[name] for name in ["selected", *names]} | {"epoch": config.train.epochs})


def train_within_memory(
    config: Config, names: list[str], values: dict[str, Any], tags: dict[str, str]
) -> dict[str, Any]:
    """Trains; where memory runs out, again from the start with half the batch and twice the accumulation."""
    folder = Path(config.train.runs) / config.track.name
    if (folder / HALVED).exists():  # resumed after a kill
        return train(halve(config), extra_callbacks=[TuneReport(names, values, tags | {"batch": "halved"})])
    try:
        return train(config, extra_callbacks=[TuneReport(names, values, tags)])
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or config.train.batch < 2:
            raise
    # Outside of the handler: the error's frames held the memory.
    clear_trial_folder(folder)
    return train(halve(config), extra_callbacks=[TuneReport(names, values, tags | {"batch": "halved"})])


def halve(config: Config) -> Config:
    """Halves the batch and doubles the accumulation: the same step of the optimiser."""
    config.train.batch_size, config.train.accumulate = config.train.batch // 2, config.train.accumulate * 2
    return config


def clear_trial_folder(folder: Path) -> None:
    """Clears a run's folder for another try with a halved batch, as the same run in MLflow."""
    write_text(folder / HALVED, "memory ran out: half the batch, twice the accumulation\n")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / "config.json").unlink(missing_ok=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
