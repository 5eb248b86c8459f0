"""The table of a sweep's trials, best first, with counts of their states and reasons of failures.

Held by tests/tuning/test_study.py.
"""

import math
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from src.common.errors import one_line
from src.common.text_table import format_table
from src.tracking.run_folder import RunFolder
from src.tuning.search_space import short_names
from src.tuning.study import balanced_sum, counted_trials, pareto_indices, trial_scores
from src.tuning.sweep_config import trial_name

FAILURE = "failure.txt"  # in a trial's run folder: why it failed
STATES = {"COMPLETE": "finished", "FAIL": "failed", "PRUNED": "stopped", "RUNNING": "running", "WAITING": "waiting"}


def trial_rows(study: Study, runs: Path) -> list[dict[str, Any]]:
    """One row a trial, best first: number, state, scores, minutes and values; `runs` holds the trials' run folders.

    With one objective, a running trial has its best score so far. With two, `front` marks the Pareto front.
    """
    trials = [t for t in counted_trials(study) if t.state.name != "WAITING"]
    done = [t for t in trials if t.values]
    points = [trial_scores(t) for t in done]
    best = {done[i].number for i in pareto_indices(points)}
    places = dict(zip([t.number for t in done], balanced_sum(points), strict=True))
    names = study.user_attrs.get("objective", ["selected"])
    short = short_names(list(dict.fromkeys(key for t in trials for key in t.params)))
    rows = []

    def merit(t: FrozenTrial) -> tuple[bool, float, bool]:
        return t.number in best, places.get(t.number, -math.inf), t.state.name == "RUNNING"

    for t in sorted(trials, key=merit, reverse=True):
        mark = {"front": "*" if t.number in best else ""} if len(names) > 1 else {}
        values = dict(zip(names, trial_scores(t, len(names)), strict=True))
        params = {short[key]: value for key, value in t.params.items()}
        state = trial_state(t, trial_folder(study, t, runs))
        rows.append({"trial": t.number, "state": state, **mark, **values, "min": trial_minutes(t), **params})
    return rows


def trial_folder(study: Study, trial: FrozenTrial, runs: Path) -> Path:
    """The run folder of a trial."""
    return runs / trial_name(study.study_name, trial.params)


def trial_state(trial: FrozenTrial, folder: Path) -> str:
    """A trial's state; Optuna calls a trial complete that the scheduler stopped, but its run has no result."""
    if trial.state.name == "COMPLETE" and folder.is_dir() and not RunFolder(folder).result.exists():
        return "stopped"
    return STATES[trial.state.name]


def trial_minutes(trial: FrozenTrial) -> float:
    """Minutes that a trial took so far."""
    if trial.datetime_start is None:
        return 0.0
    return ((trial.datetime_complete or datetime.now()) - trial.datetime_start).total_seconds() / 60


def trial_table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text."""
    if not rows:
        return "no trial yet"
    titles = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[trial_cell(row[key]) if key in row else "-" for key in titles] for row in rows]
    return format_table([titles, *cells], right=range(len(titles)))


def trial_cell(value: Any) -> str:
    """A value as text, a number with four digits, a dash for no number."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def study_status(study: Study, runs: Path) -> str:
    """The numbers of trials in each state, the table of trials, and the reasons of failures."""
    rows = trial_rows(study, runs)
    waiting = sum(trial.state.name == "WAITING" for trial in study.get_trials(deepcopy=False))
    counts = {name: sum(row["state"] == name for row in rows) for name in ("finished", "stopped", "running", "failed")}
    head = ", ".join(f"{count} {name}" for name, count in {**counts, "waiting": waiting}.items())
    return "\n".join([f"{study.study_name}: {head}", trial_table(rows), *failure_lines(study, runs)])


def failure_lines(study: Study, runs: Path) -> list[str]:
    """One line a failed trial whose reason is known."""
    lines = []
    for trial in study.get_trials(deepcopy=False):
        file = trial_folder(study, trial, runs) / FAILURE
        if trial.state.name == "FAIL" and file.exists():
            lines.append(f"trial {trial.number} failed: {one_line(file.read_text())}; its values: {trial.params}")
    return lines
