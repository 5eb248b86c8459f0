"""Population based training (Jaderberg et al. 2017) by Ray Tune: the driver's side, and the schedule that it found.

The memory of the search is that of every sweep: Optuna's study holds the trials with their first values, a run folder
the checkpoints and the values of now. Held by tests/tuning/test_population.py.
"""

import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining
from ray.tune.search.basic_variant import BasicVariantGenerator

from src.common.files import partial_folder, write_text
from src.tracking.mlflow_sync import Status
from src.tracking.mlflow_tracker import Tracker
from src.tracking.run_folder import RunFolder
from src.tuning.population_member import EXCHANGE, read_schedule, run_member
from src.tuning.search_space import Domain, SearchSpace, nearest_value, yaml_number
from src.tuning.study import best_trial, finished_trials, make_sampler
from src.tuning.sweep_config import SweepConfig, trial_name
from src.tuning.sweep_schedules import SCHEDULE, SweepSchedules
from src.tuning.trial_progress import DeadTrials, FailureLimit, TrialProgress, fit_trials, trial_context


def run_population(
    sweep: SweepConfig,
    folder: Path,
    trials: int,
    seconds: float,
    parent: str,
    failures: FailureLimit,
    deaths: DeadTrials,
) -> int:
    """Trains a population of `trials` trials to its end. Arguments and result are those of run_trials."""
    runs = folder.parent
    members = draw_members(sweep, deaths.study, trials)
    random.seed(sweep.seed + len(deaths.study.trials))  # Ray draws from both
    np.random.seed(sweep.seed + len(deaths.study.trials))
    points = [member_values(RunFolder(runs / name), trial.params) for name, trial in members.items()]
    settings = tune.TuneConfig(
        num_samples=trials,
        reuse_actors=True,
        search_alg=BasicVariantGenerator(points_to_evaluate=points),
        scheduler=make_pbt(sweep),
    )
    space = {key: ray_domain(domain) for key, domain in sweep.space.items()}
    progress = PopulationProgress(sweep.name, runs, failures, deaths, members)
    run = tune.with_parameters(run_member, names=list(members), **trial_context(sweep, folder, parent))
    return fit_trials(run, sweep, folder, settings, progress, space)


def draw_members(sweep: SweepConfig, study: Study, count: int) -> dict[str, optuna.Trial]:
    """The next trials of a study by the names of their runs; those that were cut short come first."""
    members: dict[str, optuna.Trial] = {}
    study.sampler = make_sampler(sweep, len(study.trials))
    while len(members) < count:
        trial = study.ask()
        SearchSpace(sweep.space)(trial)
        name = trial_name(sweep.name, trial.params)
        if name in members:  # two starting points were alike
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            members[name] = trial
    return members


def member_values(folder: RunFolder, first: dict[str, Any]) -> dict[str, Any]:
    """The values with which a trial's checkpoint was trained, by config key; its first ones where it has none."""
    parts, _ = read_schedule(folder.checkpoint)
    return parts[-1]["values"] if parts else first


def make_pbt(sweep: SweepConfig) -> PopulationBasedTraining:
    """Ray's scheduler. It compares trials by their latest score, in the order in which they reach an exchange."""

    def clip_values(values: dict[str, Any]) -> dict[str, Any]:
        return {key: nearest_value(sweep.space[key], value) for key, value in values.items()}

    return PopulationBasedTraining(
        time_attr="exchange",
        metric="score",
        mode="max",
        perturbation_interval=1,  # a report without an exchange has time 0
        # Choices as lists, in which a value moves to a neighbour.
        hyperparam_mutations={k: domain.get("choice") or ray_domain(domain) for k, domain in sweep.space.items()},
        quantile_fraction=sweep.pbt.quantile,
        resample_probability=sweep.pbt.resample,
        custom_explore_fn=clip_values,
        log_config=False,
    )


def ray_domain(domain: Domain) -> Any:
    """A domain as Ray draws from it; nearest_value then puts the values on the domain's steps."""
    if "choice" in domain:
        return tune.choice(domain["choice"])
    kind = next(kind for kind in ("log", "logint", "float", "int") if kind in domain)
    low, high = map(yaml_number, domain[kind])
    return (tune.loguniform if kind.startswith("log") else tune.uniform)(low, high)


class PopulationProgress(TrialProgress):
    """The progress of a population, also told to its study.

    Args:
        sweep: name of the sweep.
        runs: folder of run folders.
        failures: of trials.
        deaths: of their processes.
        members: the study's trials by the names of their runs, in Ray's order.
    """

    def __init__(
        self,
        sweep: str,
        runs: Path,
        failures: FailureLimit,
        deaths: DeadTrials,
        members: dict[str, optuna.Trial],
    ) -> None:
        super().__init__(sweep, runs, len(members), failures, deaths)
        self.members = list(members.items())
        self.reports: Counter[str] = Counter()  # a trial that continues from another's checkpoint may go back in epochs

    def run_of(self, trial: Trial) -> str:
        """The name of a trial's run."""
        return self.member(trial)[0]

    def member(self, trial: Trial) -> tuple[str, optuna.Trial]:
        """The run's name and the study's trial of one of Ray's."""
        return self.members[int(trial.trial_id.rpartition("_")[2])]

    def queue_again(self, trial: Trial) -> bool:
        """Queues a trial that died, with the values that its run is named by; False: it died too often."""
        first = self.member(trial)[1]
        self.deaths.study.tell(first.number, state=optuna.trial.TrialState.FAIL)
        return self.deaths.queue(first.params)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Tells the study a trial's best score so far."""
        self.reports[trial.trial_id] += 1
        self.member(trial)[1].report(result["selected"], self.reports[trial.trial_id])

    def end_trial(self, trial: Trial, status: Status) -> None:
        """Tells the study a trial's end; one that was stopped with the sweep is still running, and resumes."""
        super().end_trial(trial, status)
        name, member = self.member(trial)
        result = RunFolder(self.runs / name)
        if status == "FAILED":
            self.deaths.study.tell(member.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
        elif result.result.exists():
            self.deaths.study.tell(member.number, result.finished()["selected"])


def finish_population(sweep: SweepConfig, folder: Path, study: Study, tracker: Tracker) -> list[dict[str, Any]]:
    """Writes and prints the schedule found, and makes the best trial's run that of the sweep, SWEEP-best.

    Returns:
        The run's result, as a list.
    """
    runs = folder.parent
    trials = {trial_name(sweep.name, trial.params): trial for trial in finished_trials(study)}
    for place in (place for name in trials for place in (runs / name / "checkpoints").glob(f"{EXCHANGE}*")):
        shutil.rmtree(place)
    best = trial_name(sweep.name, best_trial(study).params)
    parts = {name: trained_schedule(RunFolder(runs / name), trial) for name, trial in trials.items()}
    schedules = SweepSchedules(best, parts)
    schedules.write(folder)
    tracker.log_artifact(folder / SCHEDULE)
    tracker.log_figure(schedules.figure(sweep.space), "plots/schedule.png")
    print(schedules.table())
    return [copy_run(runs / best, f"{sweep.name}-best")]


def trained_schedule(folder: RunFolder, trial: FrozenTrial) -> dict[str, Any]:
    """The schedule of a trial's best weights, as SweepSchedules holds it."""
    parts, epochs = read_schedule(folder.best if folder.best.exists() else folder.checkpoint)
    first = {"run": folder.path.name, "epoch": 0, "values": trial.params}
    return {"selected": trial.value, "epochs": epochs, "parts": parts or [first]}


def copy_run(source: Path, name: str) -> dict[str, Any]:
    """Copies a finished run's folder, without its checkpoints, to another name beside it. Returns its result."""
    target = RunFolder(source.with_name(name))
    result = RunFolder(source).finished() | {"name": name, "model": str(target.model)}
    if target.result.exists() and target.finished() == result:
        return result
    with partial_folder(target.path) as part:
        shutil.copytree(source, part, ignore=shutil.ignore_patterns("checkpoints", ".*"), dirs_exist_ok=True)
        write_text(part / target.result.name, json.dumps(result, indent=1))
        shutil.rmtree(target.path, ignore_errors=True)
        part.rename(target.path)
    return result
