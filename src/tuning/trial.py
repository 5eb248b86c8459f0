"""What runs inside a sweep's trial, and what the driver prints and tells MLflow as trials end."""

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from ray import cloudpickle, tune
from ray import train as ray_train
from ray.exceptions import RayActorError
from tqdm import tqdm

from src.common.errors import UserError, is_out_of_memory
from src.common.files import file_lock, write_text
from src.common.ray_cluster import IDLE_CPUS, enter_working_folder
from src.config.schema import Config
from src.tracking.abandoned_runs import end_abandoned, end_when_gone
from src.tracking.mlflow_sync import Status
from src.tracking.run_lock import wait_until_free
from src.training.trainer import TrackerLogger
from src.tuning.study import FAILURE
from src.tuning.sweep_config import SweepConfig, short_names, trial_config, trial_name

if TYPE_CHECKING:
    from optuna import Study
    from ray.tune.experiment import Trial

HALVED = "halved.txt"  # in a trial's run folder: its memory was too small for the batch


class TuneReport(Callback):
    """Tells Ray the scores of the best evaluation so far, so that a trial stopped later is judged by its best.

    In MLflow the trial carries the values drawn as search.NAME, and tags for the sweep and its own state.

    Args:
        names: of the scores to report, beside the selected one, by which the best evaluation is known.
        values: what was drawn.
        tags: for MLflow.
    """

    def __init__(self, names: list[str], values: dict[str, Any], tags: dict[str, str]) -> None:
        self.names, self.values, self.tags = ["selected", *names], values, tags
        self.best = dict.fromkeys(self.names, -float("inf"))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Names the trial's values and its state in MLflow."""
        if isinstance(trainer.logger, TrackerLogger):
            short = short_names(list(self.values))
            trainer.logger.tracker.log_params({f"search.{short[key]}": value for key, value in self.values.items()})
        self._tag(trainer, self.tags | {"status": "running"})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports after each evaluation."""
        found = {name.removeprefix("val/"): float(v) for name, v in trainer.callback_metrics.items() if "val/" in name}
        check_scores(found, self.names)
        if found["selected"] > self.best["selected"]:
            self.best = {name: found[name] for name in self.names}
        report = tune.report if trainer.world_size == 1 else ray_train.report  # of several workers: all of them
        report({**self.best, "epoch": trainer.current_epoch + 1})

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says that the trial ran to its end."""
        self._tag(trainer, {"status": "finished"})

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Says that the trial was stopped by the scheduler, or failed."""
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


def check_scores(found: dict[str, float], names: list[str]) -> None:
    """Raises UserError where a score to report is not among those found."""
    if missing := [name for name in names if name not in found]:
        raise UserError(f"objective: no score is called {missing[0]}; there are: {', '.join(sorted(found))}")


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
    with file_lock(
        folder / ".trial.lock"
    ):  # of two trials with the same values the second takes the first one's result
        wait_until_free(folder)  # by workers that a killed trial left behind
        result = train_within_memory(config, names, values, {"sweep": sweep.name})
    kept = {name: score["value"] for name, score in result["scores"].items()} | {"selected": result["selected"]}
    check_scores(kept, names)
    tune.report({name: kept[name] for name in ["selected", *names]} | {"epoch": config.train.epochs})


def train_within_memory(
    config: Config, names: list[str], values: dict[str, Any], tags: dict[str, str]
) -> dict[str, Any]:
    """Trains; where memory runs out, once more from the start with half the batch and twice the accumulation."""
    from src.training.run import train

    folder = Path(config.train.runs) / config.track.name
    if (folder / HALVED).exists():  # gone on with after a kill
        return train(halve(config), more=[TuneReport(names, values, tags | {"batch": "halved"})])
    try:
        return train(config, more=[TuneReport(names, values, tags)])
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or config.train.batch_size < 2:
            raise
    # Outside of the handler: the error's frames held the memory.
    clear_trial_folder(folder)
    return train(halve(config), more=[TuneReport(names, values, tags | {"batch": "halved"})])


def halve(config: Config) -> Config:
    """The same step of the optimiser from two batches of half the size."""
    config.train.batch_size, config.train.accumulate = config.train.batch_size // 2, config.train.accumulate * 2
    return config


def clear_trial_folder(folder: Path) -> None:
    """Empties a run's folder for another try with a halved batch; it stays the same run in MLflow."""
    import torch

    write_text(folder / HALVED, "memory ran out: half the batch, twice the accumulation\n")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / "config.json").unlink(missing_ok=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class FailureLimit(tune.Stopper):
    """Stops a sweep when too many of its trials failed for one reason.

    Args:
        most: how many stop it; 0: none.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.counts: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        """Counts a failure."""
        self.counts[failure_kind(reason)] += 1

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stops no single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop the sweep."""
        return bool(self.most) and max(self.counts.values(), default=0) >= self.most

    def check(self, sweep: str) -> None:
        """Raises UserError where the sweep was stopped."""
        if self.stop_all():
            reason, count = self.counts.most_common(1)[0]
            raise UserError(f"{sweep}: stopped, since {count} trials failed for one reason: {reason}")


def failure_kind(reason: str) -> str:
    """A reason without what differs from trial to trial: numbers, and what follows the first semicolon or bracket."""
    if "out of memory" in reason or "can't allocate memory" in reason:
        return "out of memory"
    return re.sub(r"\d+", "N", re.split(r"[;(\[]", reason)[0])[:100].strip()


class DeadTrials:
    """Trials whose process or machine died: each is queued again, to go on from its checkpoint.

    Args:
        study: the sweep's.
        most: how often a trial may die; then it has failed.
    """

    def __init__(self, study: "Study", most: int = 3) -> None:
        self.study, self.most = study, most
        self.counts: Counter[str] = Counter()

    def queue(self, values: dict[str, Any]) -> bool:
        """Queues a trial that died; False: too often."""
        key = trial_name(self.study.study_name, values)
        self.counts[key] += 1
        if self.counts[key] > self.most:
            return False
        number = max(t.number for t in self.study.get_trials(deepcopy=False) if t.params == values)
        self.study.enqueue_trial(values, user_attrs={"again": number})
        return True


class TrialProgress(tune.Callback):
    """A bar over trials, and the end of the MLflow run of a trial that the scheduler stopped or that failed.

    Attributes:
        queued: trials that died and were queued again.
    """

    def __init__(self, sweep: str, runs: Path, trials: int, failures: FailureLimit, deaths: DeadTrials) -> None:
        self.sweep, self.runs, self.failures, self.deaths = sweep, runs, failures, deaths
        self.queued = 0
        self.bar = tqdm(total=trials or None, desc="trials", unit="trial")
        self.best = -float("inf")

    def __getstate__(self) -> dict[str, Any]:
        """Ray keeps its callbacks with the sweep's state; a bar on a terminal cannot be kept."""
        return {name: value for name, value in vars(self).items() if name not in ("bar", "deaths")}

    def on_trial_complete(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Counts a trial; ends its MLflow run."""
        self._end(trial, "FINISHED")

    def on_trial_error(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Counts a failed trial, says why it failed, and keeps the reason in its run folder. One that died goes on."""
        if is_trial_death(trial) and self.deaths.queue(trial.config):
            self.queued += 1
            tqdm.write(f"trial {trial.trial_id}: its process or machine died; it is queued again: {trial.config}")
            return
        reason = last_error_line(trial)
        tqdm.write(f"trial {trial.trial_id} failed: {reason}; its values: {trial.config}")
        write_text(self.runs / trial_name(self.sweep, trial.config) / FAILURE, reason + "\n")
        self.failures.add(reason)
        self._end(trial, "FAILED")

    def _end(self, trial: "Trial", status: Status) -> None:
        # The scheduler's stop is a kill: the trial's process could not end its run.
        end_abandoned(self.runs / trial_name(self.sweep, trial.config), status)
        self.best = max(self.best, (trial.last_result or {}).get("selected", self.best))
        self.bar.set_postfix(best=f"{self.best:.4f}")
        self.bar.update()


def is_trial_death(trial: "Trial") -> bool:
    """Whether a trial ended since its process or machine did, not by an error of its own."""
    file = trial.pickled_error_file
    return bool(file) and isinstance(cloudpickle.loads(Path(file).read_bytes()), RayActorError)


# How a trial's run ends in MLflow, and its own tag, where its process could not say so itself.
ENDS: dict[str, tuple[Status, str]] = {
    "COMPLETE": ("FINISHED", "stopped"),
    "PRUNED": ("FINISHED", "stopped"),
    "FAIL": ("FAILED", "failed"),
    "RUNNING": ("KILLED", "killed"),
}


def end_trials(sweep: SweepConfig, runs: Path, study: "Study") -> None:
    """Ends the MLflow run of every trial that is over: a process that Ray took back may have died before it could.

    To be called when no trial runs any more: what the study takes for running was cut short.
    """
    states = {trial_name(sweep.name, t.params): t.state.name for t in study.get_trials(deepcopy=False)}
    for name, state in states.items():  # a trial queued again: its last state
        if state in ENDS and (runs / name).is_dir():
            status, tag = ENDS[state]
            end_when_gone(runs / name, status, tags={"status": tag})


def last_error_line(trial: "Trial") -> str:
    """The last line of a failed trial's error: the exception itself."""
    path = trial.error_file
    lines = Path(path).read_text(errors="replace").strip().splitlines() if path else []
    return lines[-1] if lines else "no reason was recorded"
