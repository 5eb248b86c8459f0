"""A sweep's memory: Optuna's study in a database in the sweep's folder, as a table and as figures. No Ray here."""

import math
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common.errors import UserError, one_line
from src.tracking.run_folder import RunFolder, config_identity, differing_keys, fill_identity
from src.tuning.sweep_config import SweepConfig, domain_contains, preset_point, short_names, trial_config, trial_name

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure
    from optuna.trial import FrozenTrial

FAILURE = "failure.txt"  # in a trial's run folder: why it failed
STATES = {"COMPLETE": "finished", "FAIL": "failed", "PRUNED": "stopped", "RUNNING": "running", "WAITING": "waiting"}


def open_study(sweep: SweepConfig, folder: Path) -> "optuna.Study":
    """The sweep's study, from its database; trials that were running when an earlier driver died are queued again.

    Raises:
        UserError: the study's trials are made of something else, or a starting point's sweep is not there.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=sweep.name,
        storage=study_storage(folder),
        directions=["maximize"] * len(sweep.objective),
        load_if_exists=True,
        sampler=make_sampler(sweep),
    )
    check_same_kind(study, sweep)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
    if not study.trials:
        for point in start_points(sweep, folder.parent):
            study.enqueue_trial(point)
    return study


def check_same_kind(study: "optuna.Study", sweep: SweepConfig) -> None:
    """Has a study know what all its trials are made of, so that those it compares differ in nothing but their values.

    Raises:
        UserError: the sweep's trials would be made of something else than those of the study.
    """
    made = {**config_identity(trial_config(sweep, {})), "space": sweep.space, "objective": sweep.objective}
    kept = fill_identity({name: study.user_attrs.get(name, value) for name, value in made.items()})
    if changed := differing_keys(kept, made):
        remedy = "restore these, or give the sweep another name"
        raise UserError(f"{sweep.name}: holds trials made otherwise ({', '.join(changed)}); {remedy}")
    for name, value in made.items():
        study.set_user_attr(name, value)


def study_storage(folder: Path) -> "optuna.storages.RDBStorage":
    """The study's database, one a sweep, so that two sweeps never mix."""
    import optuna

    return optuna.storages.RDBStorage(f"sqlite:///{(folder / 'study.db').resolve()}")


def read_study(name: str, runs: Path) -> "optuna.Study":
    """The study of a sweep that runs or ran.

    Raises:
        UserError: there is none.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = runs / f"sweep-{name}"
    try:
        if not (folder / "study.db").exists():
            raise KeyError(name)
        return optuna.load_study(study_name=name, storage=study_storage(folder))
    except KeyError as error:
        raise UserError(
            f"{folder}: holds no trials yet; start the sweep, or name its folder of runs: --runs"
        ) from error


def start_points(sweep: SweepConfig, runs: Path) -> list[dict[str, Any]]:
    """What to try first; values of presets and earlier sweeps that the space cannot draw are left out."""
    points = []
    for point in sweep.start:
        if isinstance(point, str) and point.endswith(".yaml"):
            point = preset_point(sweep, point)
        elif isinstance(point, str):
            best = best_trial(read_study(point, runs)).params
            point = {
                key: value
                for key, value in best.items()
                if key in sweep.space and domain_contains(sweep.space[key], value)
            }
        points.append(point)
    return points


def make_sampler(sweep: SweepConfig, drawn: int = 0) -> "optuna.samplers.BaseSampler":
    """The algorithm that draws values; TPE is multivariate and expects running trials to do badly (constant liar).

    Args:
        sweep: what is searched.
        drawn: trials so far, or a search that is gone on with would draw its first random values once more.
    """
    import optuna

    warnings.filterwarnings("ignore", "Argument ``(multivariate|group|constant_liar)`` is an experimental feature")
    one, seed = optuna.samplers, sweep.seed + 1_000_003 * drawn
    if sweep.algorithm == "random":
        return one.RandomSampler(seed=seed)
    if sweep.algorithm == "gp":
        return one.GPSampler(seed=seed, n_startup_trials=sweep.startup)
    if sweep.algorithm == "cmaes":
        return one.CmaEsSampler(seed=seed, n_startup_trials=sweep.startup)
    if sweep.algorithm == "nsga2":
        return one.NSGAIISampler(seed=seed, population_size=max(2, sweep.startup))
    return one.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=sweep.startup)


def finished_trials(study: "optuna.Study") -> "list[FrozenTrial]":
    """Trials with a score."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def best_trial(study: "optuna.Study") -> "FrozenTrial":
    """The best trial; of a Pareto front, that with the largest sum of scores, each relative to its range over all.

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
    """Numbers of the points [n, k] that no other point is at least as good as in all and better than in one."""

    def beaten(a: Sequence[float]) -> bool:
        return any(tuple(b) != tuple(a) and all(y >= x for x, y in zip(a, b, strict=True)) for b in values)

    return [i for i in range(len(values)) if not beaten(values[i])]


def balanced_sum(values: Sequence[Sequence[float]]) -> list[float]:
    """The sum over the k scores of each point [n, k], each score as its place, 0..1, in its finite range."""
    totals = [0.0] * len(values)
    for column in zip(*values, strict=True):
        known = [value for value in column if math.isfinite(value)] or [0.0]
        low, width = min(known), (max(known) - min(known)) or 1.0
        totals = [total + (value - low) / width for total, value in zip(totals, column, strict=True)]
    return totals


def spent_hours(study: "optuna.Study") -> float:
    """Hours in which at least one trial ran, of those trials that came to an end of their own."""
    done = finished_trials(study)
    spans = [(t.datetime_start, t.datetime_complete) for t in done if t.datetime_start and t.datetime_complete]
    total, last = 0.0, datetime.min
    for start, end in sorted(spans):
        if end > last:
            total += (end - max(start, last)).total_seconds()
            last = end
    return total / 3600


def trial_rows(study: "optuna.Study", runs: Path) -> list[dict[str, Any]]:
    """One row a trial, best first: number, state, scores, minutes, and the values drawn. Its run lies in `runs`.

    A running trial shows its best so far, with one objective. Of two objectives, `front` marks the Pareto front.
    """
    shown = [t for t in counted_trials(study) if t.state.name != "WAITING"]
    done = [t for t in shown if t.values]
    points = [trial_scores(t) for t in done]
    best = {done[i].number for i in pareto_indices(points)}
    places = dict(zip([t.number for t in done], balanced_sum(points), strict=True))
    names = study.user_attrs.get("objective", ["selected"])
    short = short_names(list(dict.fromkeys(key for t in shown for key in t.params)))
    rows = []

    def merit(t: "FrozenTrial") -> tuple[bool, float, bool]:
        return t.number in best, places.get(t.number, -math.inf), t.state.name == "RUNNING"

    for t in sorted(shown, key=merit, reverse=True):
        mark = {"front": "*" if t.number in best else ""} if len(names) > 1 else {}
        values = dict(zip(names, trial_scores(t, len(names)), strict=True))
        spent = {"min": trial_minutes(t)}
        drawn = {short[key]: value for key, value in t.params.items()}
        state = trial_state(t, trial_folder(study, t, runs))
        rows.append({"trial": t.number, "state": state, **mark, **values, **spent, **drawn})
    return rows


def trial_folder(study: "optuna.Study", trial: "FrozenTrial", runs: Path) -> Path:
    """Where a trial's run lies, or lay."""
    return runs / trial_name(study.study_name, trial.params)


def trial_state(trial: "FrozenTrial", folder: Path) -> str:
    """A trial's state; one that the scheduler stopped is complete to Optuna, but its run has no result."""
    if trial.state.name == "COMPLETE" and folder.is_dir() and not RunFolder(folder).result.exists():
        return "stopped"
    return STATES[trial.state.name]


def counted_trials(study: "optuna.Study") -> "list[FrozenTrial]":
    """All trials but those that were cut short, and queued anew under another number."""
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("again") for trial in trials}
    return [trial for trial in trials if trial.number not in again]


def trial_scores(trial: "FrozenTrial", objectives: int = 1) -> list[float]:
    """A trial's scores; one that runs has its last report, NaN where it has none."""
    if trial.values:
        return list(trial.values)
    reports = trial.intermediate_values
    return [reports[max(reports)]] if reports and objectives == 1 else [math.nan] * objectives


def trial_minutes(trial: "FrozenTrial") -> float:
    """How long a trial ran, or has run."""
    if trial.datetime_start is None:
        return 0.0
    return ((trial.datetime_complete or datetime.now()) - trial.datetime_start).total_seconds() / 60


def trial_table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text."""
    import pandas as pd

    if not rows:
        return "no trial yet"
    cells = [{key: trial_cell(value) for key, value in row.items()} for row in rows]
    return pd.DataFrame(cells).fillna("-").to_string(index=False)


def trial_cell(value: Any) -> str:
    """A value as text, a number with four digits, a dash for no number."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def study_status(study: "optuna.Study", runs: Path) -> str:
    """How many trials finished, were stopped, run and failed, the table of them, and why those failed that did."""
    rows = trial_rows(study, runs)
    waiting = sum(trial.state.name == "WAITING" for trial in study.get_trials(deepcopy=False))
    counts = {name: sum(row["state"] == name for row in rows) for name in ("finished", "stopped", "running", "failed")}
    head = ", ".join(f"{count} {name}" for name, count in {**counts, "waiting": waiting}.items())
    return "\n".join([f"{study.study_name}: {head}", trial_table(rows), *failure_lines(study, runs)])


def failure_lines(study: "optuna.Study", runs: Path) -> list[str]:
    """A line a failed trial whose reason is known."""
    lines = []
    for trial in study.get_trials(deepcopy=False):
        file = trial_folder(study, trial, runs) / FAILURE
        if trial.state.name == "FAIL" and file.exists():
            lines.append(f"trial {trial.number} failed: {one_line(file.read_text())}; its values: {trial.params}")
    return lines


def study_figures(study: "optuna.Study") -> "Iterator[tuple[str, Figure]]":
    """Plots of a search by name: history, values against scores, parallel coordinates, importances, the front."""
    from src.plots.search import (
        plot_importances,
        plot_objective_history,
        plot_parallel_coordinates,
        plot_parameter_scatter,
        plot_pareto_front,
    )

    names = study.user_attrs.get("objective", ["selected"])
    trials = [t for t in counted_trials(study) if t.state.is_finished() and t.params]
    short = short_names(list(dict.fromkeys(key for t in trials for key in t.params)))
    drawn = [{short[key]: value for key, value in t.params.items()} for t in trials]
    log = {
        short[key] for t in trials for key, drawn_from in t.distributions.items() if getattr(drawn_from, "log", False)
    }
    for i, name in enumerate(names):
        found = [trial_scores(t, len(names))[i] for t in trials]
        objective = [value if math.isfinite(value) else None for value in found]
        yield f"history_{name}", plot_objective_history(objective, name)
        yield f"values_{name}", plot_parameter_scatter(drawn, objective, name, log)
        yield f"parallel_{name}", plot_parallel_coordinates(drawn, objective, name, log)
        if shares := parameter_importances(study, i):
            yield (
                f"importances_{name}",
                plot_importances({short[key]: share for key, share in shares.items()}, name),
            )
    if len(names) == 2:
        pairs = [(x, y) for x, y in (trial_scores(t, 2) for t in trials) if math.isfinite(x) and math.isfinite(y)]
        yield "front", plot_pareto_front(pairs, pareto_indices(pairs), names)


def parameter_importances(study: "optuna.Study", objective: int = 0) -> dict[str, float]:
    """Each key's share in how an objective varies, PED-ANOVA (Watanabe et al. 2023), of sum 1.

    Empty, with a warning that says why, where it cannot be computed: after few trials, or where all score alike.
    """
    import optuna

    def target(trial: "FrozenTrial") -> float:
        return -trial_scores(trial)[objective]  # given a target, PED-ANOVA takes less for better

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which says just that
            return optuna.importance.get_param_importances(study, target=target)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        warnings.warn(f"importances of {study.study_name}: not known yet ({one_line(error)})", stacklevel=2)
        return {}
