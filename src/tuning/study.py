"""The study of a sweep: its trials, in Optuna's database in the sweep's folder; scores, Pareto front and budget."""

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial

from src.common.errors import UserError
from src.common.sqlite import make_database_file, sqlite_address
from src.tracking.run_folder import config_identity, differing_keys, fill_identity, without_moved_files
from src.tracking.run_log import LOG, read_first_tags
from src.tuning.search_space import drawable_values, preset_point
from src.tuning.sweep_config import SweepConfig, trial_config, trial_name


def open_study(sweep: SweepConfig, folder: Path) -> Study:
    """The sweep's study, from its database; trials that were running when an earlier driver died are queued again.

    Raises:
        UserError: the study's trials have other settings, or a starting point's sweep is missing.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=sweep.name,
        storage=study_storage(folder),
        directions=["maximize"] * len(sweep.objective),
        load_if_exists=True,
        sampler=make_sampler(sweep),
    )
    check_same_kind(study, sweep, folder.parent)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
    if not study.trials:
        for point in start_points(sweep, folder.parent):
            study.enqueue_trial(point)
    return study


def check_same_kind(study: Study, sweep: SweepConfig, runs: Path = Path("runs")) -> None:
    """Notes in a study the settings that all its trials share, so that they differ in the values of the space alone.

    Args:
        study: the sweep's.
        sweep: its settings now.
        runs: folder of the trials' run folders.

    Raises:
        UserError: the sweep's settings differ from those of the study's trials.
    """
    config = trial_config(sweep, {})
    settings = {**config_identity(config), "space": sweep.space, "objective": sweep.objective}
    noted = fill_identity({name: study.user_attrs.get(name, value) for name, value in settings.items()})
    logs = (runs / trial_name(sweep.name, trial.params) / LOG for trial in study.get_trials(deepcopy=False))
    tags = next(filter(None, map(read_first_tags, logs)), {})
    if changed := without_moved_files(differing_keys(noted, settings), noted, config, tags):
        remedy = "restore these, or give the sweep another name"
        raise UserError(f"{sweep.name}: holds trials made otherwise ({', '.join(changed)}); {remedy}")
    for name, value in settings.items():
        study.set_user_attr(name, value)


def study_storage(folder: Path) -> optuna.storages.RDBStorage:
    """The study's database, one a sweep, so that two sweeps never mix.

    Raises:
        UserError: it cannot lie there.
    """
    make_database_file(folder / "study.db")
    address = sqlite_address(folder / "study.db").replace("{", "{{").replace("}", "}}")  # Optuna fills in its version
    return optuna.storages.RDBStorage(address)


def read_study(name: str, runs: Path) -> Study:
    """The study of a sweep that runs or ran.

    Raises:
        UserError: there is none.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = runs / f"sweep-{name}"
    try:
        if not (folder / "study.db").exists():
            raise KeyError(name)
        return optuna.load_study(study_name=name, storage=study_storage(folder))
    except KeyError as error:
        remedy = "start the sweep, or name its folder of runs: --runs"
        raise UserError(f"{folder}: holds no trials yet; {remedy}") from error


def start_points(sweep: SweepConfig, runs: Path) -> list[dict[str, Any]]:
    """The values of the first trials; values of presets and earlier sweeps that the space cannot draw are left out."""
    points = []
    for point in sweep.start:
        if isinstance(point, str) and point.endswith(".yaml"):
            point = preset_point(sweep.space, point)
        elif isinstance(point, str):
            point = drawable_values(sweep.space, best_trial(read_study(point, runs)).params)
        points.append(point)
    return points


def make_sampler(sweep: SweepConfig, drawn: int = 0) -> optuna.samplers.BaseSampler:
    """The algorithm that draws values; TPE is multivariate and expects running trials to do badly (constant liar).

    Args:
        sweep: names the algorithm and its seed.
        drawn: number of trials so far, or a resumed search would draw its first random values once more.
    """
    samplers, seed, startup = optuna.samplers, sweep.seed + 1_000_003 * drawn, sweep.startup
    match sweep.algorithm:
        case "random":
            return samplers.RandomSampler(seed=seed)
        case "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=startup)
        case "cmaes":
            return samplers.CmaEsSampler(seed=seed, n_startup_trials=startup)
        case "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=max(2, startup))
        case "tpe":
            return samplers.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=startup
            )


def finished_trials(study: Study) -> list[FrozenTrial]:
    """Trials with a score."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def best_trial(study: Study) -> FrozenTrial:
    """The best trial; of a Pareto front, the one with the largest sum of scores, each relative to its range.

    Raises:
        UserError: no trial succeeded.
    """
    done = finished_trials(study)
    if not done:
        raise UserError(f"no trial of {study.study_name} succeeded; its table names the reasons: --status")
    points = [trial_scores(trial) for trial in done]
    balanced = balanced_sum(points)
    return done[max(pareto_indices(points), key=lambda i: balanced[i])]


def pareto_indices(values: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points [n, k] that no other point dominates: as good in all k scores, better in some."""

    def is_dominated(a: Sequence[float]) -> bool:
        return any(tuple(b) != tuple(a) and all(y >= x for x, y in zip(a, b, strict=True)) for b in values)

    return [i for i in range(len(values)) if not is_dominated(values[i])]


def balanced_sum(values: Sequence[Sequence[float]]) -> list[float]:
    """The sum of the k scores of each point [n, k], each scaled to 0..1 by the range of its finite values."""
    totals = [0.0] * len(values)
    for column in zip(*values, strict=True):
        known = [value for value in column if math.isfinite(value)] or [0.0]
        low, width = min(known), (max(known) - min(known)) or 1.0
        totals = [total + (value - low) / width for total, value in zip(totals, column, strict=True)]
    return totals


def spent_hours(study: Study) -> float:
    """Hours in which at least one of the finished trials ran."""
    done = finished_trials(study)
    spans = [(t.datetime_start, t.datetime_complete) for t in done if t.datetime_start and t.datetime_complete]
    total, last = 0.0, datetime.min
    for start, end in sorted(spans):
        if end > last:
            total += (end - max(start, last)).total_seconds()
            last = end
    return total / 3600


def counted_trials(study: Study) -> list[FrozenTrial]:
    """All trials but those that were cut short and queued again under another number."""
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("again") for trial in trials}
    return [trial for trial in trials if trial.number not in again]


def trial_scores(trial: FrozenTrial, objectives: int = 1) -> list[float]:
    """A trial's scores; those of a running trial are its last report, or NaN."""
    if trial.values:
        return list(trial.values)
    reports = trial.intermediate_values
    return [reports[max(reports)]] if reports and objectives == 1 else [math.nan] * objectives
