"""What runs inside a sweep's trial, and what the driver prints and tells MLflow as trials end."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from ray import tune
from tqdm import tqdm

from src.search import Sweep, trial_config
from src.tracking import Status, end_abandoned, end_when_gone

if TYPE_CHECKING:
    from optuna import Study
    from ray.tune.experiment import Trial


class Report(Callback):
    """Tells Ray the running best of the selected score, so that a trial stopped later is judged by its best."""

    def __init__(self) -> None:
        self.best = -float("inf")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports after each evaluation."""
        self.best = max(self.best, float(trainer.callback_metrics["val/selected"]))
        tune.report({"selected": self.best, "epoch": trainer.current_epoch + 1})

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint, so that a resumed trial goes on with its best."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the best up again."""
        self.best = state["best"]


def trial_name(sweep: str, values: dict[str, Any]) -> str:
    """A trial's run name, which its values decide: the same values find the same run again."""
    text = json.dumps(values, sort_keys=True, default=str)
    return f"{sweep}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def run_trial(values: dict[str, Any], sweep: Sweep, runs: str, parent: str) -> None:
    """Trains one trial, as a child run of the sweep's, in its own run folder."""
    from src.train import train

    config = trial_config(sweep, values)
    config.track.name, config.track.parent = trial_name(sweep.name, values), parent
    config.train.runs = runs
    config.train.threads = config.train.threads or max(1, int(sweep.resources.cpu))
    result = train(config, more=[Report()])
    tune.report({"selected": result["selected"], "epoch": config.train.epochs})


class Progress(tune.Callback):
    """A bar over trials, and the end of the MLflow run of a trial that the scheduler stopped or that failed."""

    def __init__(self, sweep: str, runs: Path, trials: int) -> None:
        self.sweep, self.runs = sweep, runs
        self.bar = tqdm(total=trials, desc="trials", unit="trial")
        self.best = -float("inf")

    def __getstate__(self) -> dict[str, Any]:
        """Ray keeps its callbacks with the sweep's state; a bar on a terminal cannot be kept."""
        return {name: value for name, value in vars(self).items() if name != "bar"}

    def on_trial_complete(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Counts a trial; ends its MLflow run."""
        self._end(trial, "FINISHED")

    def on_trial_error(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Counts a failed trial and says why it failed."""
        tqdm.write(f"trial {trial.trial_id} failed: {last_line(trial)}; its values: {trial.config}")
        self._end(trial, "FAILED")

    def _end(self, trial: "Trial", status: Status) -> None:
        # The scheduler's stop is a kill: the trial's process could not end its run.
        end_abandoned(self.runs / trial_name(self.sweep, trial.config), status)
        self.best = max(self.best, (trial.last_result or {}).get("selected", self.best))
        self.bar.set_postfix(best=f"{self.best:.4f}")
        self.bar.update()


def end_trials(sweep: Sweep, runs: Path, study: "Study") -> None:
    """Ends the MLflow run of every trial that is over: a process that Ray took back may have died before it could."""
    for trial in study.get_trials(deepcopy=False):
        folder = runs / trial_name(sweep.name, trial.params)
        if trial.state.is_finished() and folder.is_dir():
            end_when_gone(folder, "FINISHED" if trial.state.name in ("COMPLETE", "PRUNED") else "FAILED")


def last_line(trial: "Trial") -> str:
    """The last line of a failed trial's error: the exception itself."""
    path = trial.error_file
    lines = Path(path).read_text(errors="replace").strip().splitlines() if path else []
    return lines[-1] if lines else "no reason was recorded"
