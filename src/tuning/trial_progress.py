"""Trials in Ray and the driver's view of them as they end: progress, failures, deaths, and their end in MLflow.

Held by tests/tuning/test_trial.py and tests/tuning/test_survival.py.
"""

import math
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from optuna.study import Study
from ray import cloudpickle, tune
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial

from src.common.errors import UserError
from src.common.files import write_text
from src.common.progress import progress_bar, progress_line
from src.tracking.abandoned_runs import end_abandoned, end_when_gone
from src.tracking.mlflow_sync import Status
from src.tuning.search_space import short_names
from src.tuning.study_table import FAILURE, trial_cell
from src.tuning.sweep_config import SweepConfig, trial_name, trial_resources

# The status in MLflow of a trial whose process could not end its run, and the tag of its state.
ENDS: dict[str, tuple[Status, str]] = {
    "COMPLETE": ("FINISHED", "stopped"),
    "PRUNED": ("FINISHED", "stopped"),
    "FAIL": ("FAILED", "failed"),
    "RUNNING": ("KILLED", "killed"),
}


class FailureLimit(tune.Stopper):
    """Stops a sweep when too many of its trials failed for one reason.

    Args:
        most: number of failures that stops it; 0: none does.
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
    """A reason without the parts that differ by trial: numbers, and all after the first semicolon or bracket."""
    if "out of memory" in reason or "can't allocate memory" in reason:
        return "out of memory"
    return re.sub(r"\d+", "N", re.split(r"[;(\[]", reason)[0])[:100].strip()


class DeadTrials:
    """Queues trials again whose process or machine died; they resume from their checkpoints.

    Args:
        study: the sweep's.
        most: a trial that dies more often has failed.
    """

    def __init__(self, study: Study, most: int = 3) -> None:
        self.study, self.most = study, most
        self.counts: Counter[str] = Counter()

    def queue(self, values: dict[str, Any]) -> bool:
        """Queues a trial that died; False: it died too often."""
        key = trial_name(self.study.study_name, values)
        self.counts[key] += 1
        if self.counts[key] > self.most:
            return False
        number = max(t.number for t in self.study.get_trials(deepcopy=False) if t.params == values)
        self.study.enqueue_trial(values, user_attrs={"again": number})
        return True


class TrialProgress(tune.Callback):
    """A progress bar of trials; ends the MLflow runs of trials that were stopped or failed.

    Attributes:
        queued: number of trials that died and were queued again.
    """

    def __init__(self, sweep: str, runs: Path, trials: int, failures: FailureLimit, deaths: DeadTrials) -> None:
        self.sweep, self.runs, self.failures, self.deaths = sweep, runs, failures, deaths
        self.queued = 0
        self.bar = progress_bar(trials or None, "trials", "trial")
        self.best = -float("inf")

    def __getstate__(self) -> dict[str, Any]:
        """Without the bar and the study, which Ray cannot pickle with the sweep's state."""
        return {name: value for name, value in vars(self).items() if name not in ("bar", "deaths", "members")}

    def queue_again(self, trial: Trial) -> bool:
        """Queues a trial that died; False: it died too often."""
        return self.deaths.queue(trial.config)

    def run_of(self, trial: Trial) -> str:
        """The name of a trial's run."""
        return trial_name(self.sweep, trial.config)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Counts a trial and prints its line; ends its MLflow run."""
        self.end_trial(trial, "FINISHED")
        place = f"{self.bar.n}/{self.bar.total}" if self.bar.total else f"{self.bar.n}"
        progress_line(f"trial {place}  {trial_line(trial.config, trial.last_result or {})}  best {self.best:.4f}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Counts a failed trial, prints its reason and writes it to the run folder. One that died is queued again."""
        if is_trial_death(trial) and self.queue_again(trial):
            self.queued += 1
            progress_line(f"trial {trial.trial_id}: its process or machine died; it is queued again: {trial.config}")
            return
        reason = last_error_line(trial)
        progress_line(f"trial {trial.trial_id} failed: {reason}; its values: {trial.config}")
        write_text(self.runs / self.run_of(trial) / FAILURE, reason + "\n")
        self.failures.add(reason)
        self.end_trial(trial, "FAILED")

    def end_trial(self, trial: Trial, status: Status) -> None:
        """Counts a trial, and ends its MLflow run where its process could not."""
        # The scheduler kills the process of a trial that it stops.
        end_abandoned(self.runs / self.run_of(trial), status)
        self.best = max(self.best, (trial.last_result or {}).get("selected", self.best))
        self.bar.set_postfix(best=f"{self.best:.4f}", refresh=False)
        self.bar.update()


def trial_context(sweep: SweepConfig, folder: Path, parent: str) -> dict[str, Any]:
    """Arguments of every trial: its sweep, the runs' folder, MLflow's id of the sweep's run, and the current folder.

    Args:
        sweep: the sweep.
        folder: the sweep's, in that of the runs.
        parent: MLflow's id.
    """
    return {"sweep": sweep, "runs": str(folder.parent.resolve()), "parent": parent, "home": str(Path.cwd())}


def fit_trials(
    trainable: Any,
    sweep: SweepConfig,
    folder: Path,
    settings: tune.TuneConfig,
    progress: TrialProgress,
    space: dict[str, Any] | None = None,
) -> int:
    """Runs a sweep's trials in Ray.

    Args:
        trainable: trains a trial.
        sweep: the sweep.
        folder: the sweep's.
        settings: number of trials, search and scheduler.
        progress: of the trials.
        space: the values that Ray draws; None: the search draws them.

    Returns:
        Number of trials that died and were queued again for another call.
    """
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # or Ctrl-C would end the search as if it were done
    tune.Tuner(
        tune.with_resources(trainable, trial_resources(sweep)),
        param_space=space,
        tune_config=settings,
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder.resolve()),
            verbose=0,
            stop=progress.failures,
            callbacks=[progress],
        ),
    ).fit()
    return progress.queued


def trial_line(values: dict[str, Any], result: dict[str, Any]) -> str:
    """A trial's score, epochs and seconds as it last reported them, and its values by short name."""
    score, epochs, seconds = (result.get(key, math.nan) for key in ("selected", "epoch", "time_total_s"))
    short = short_names(list(values))
    parts = [f"{short[key]} {trial_cell(value)}" for key, value in values.items()]
    return "  ".join([f"selected {score:.4f}", f"{epochs} epochs", f"{seconds:.1f} s", *parts])


def is_trial_death(trial: Trial) -> bool:
    """Whether a trial ended because its process or machine died, not by an error."""
    file = trial.pickled_error_file
    return bool(file) and isinstance(cloudpickle.loads(Path(file).read_bytes()), RayActorError)


def end_trials(sweep: SweepConfig, runs: Path, study: Study) -> None:
    """Ends the MLflow run of every trial whose process could not; called when no trial runs any more."""
    states = {trial_name(sweep.name, t.params): t.state.name for t in study.get_trials(deepcopy=False)}
    for name, state in states.items():  # of a trial queued again, the last state counts
        if state in ENDS and (runs / name).is_dir():
            status, tag = ENDS[state]
            end_when_gone(runs / name, status, tags={"status": tag})


def last_error_line(trial: Trial) -> str:
    """The last line of a failed trial's error, which is the exception."""
    path = trial.error_file
    lines = Path(path).read_text(errors="replace").strip().splitlines() if path else []
    return lines[-1] if lines else "no reason was recorded"
