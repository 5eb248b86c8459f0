"""The sections that a sweep and a comparison add to the report on their models."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from src.common.errors import UserError
from src.config.loader import load_yaml
from src.plots.ranking import plot_score_bars
from src.reporting.html import Block, Section, Table, make_plot
from src.reporting.metric_history import metrics_from_file
from src.reporting.model_data import ReportedModel
from src.reporting.sections import curve_blocks
from src.tuning.comparison_config import with_overrides
from src.tuning.study import read_study
from src.tuning.study_figures import study_figures
from src.tuning.study_table import trial_cell, trial_folder, trial_rows
from src.tuning.sweep_schedules import SweepSchedules
from src.tuning.variant_table import COST_COLUMNS, VariantRow, format_number

TRIALS_WITH_CURVES = 6


def sweep_sections(name: str, runs: Path) -> list[Section]:
    """A sweep's trials as a table, the plots of the search, and the best trials' curves.

    Raises:
        UserError: there is no such sweep.
    """
    study = read_study(name, runs)
    rows = trial_rows(study, runs)
    header = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(header, [[trial_cell(row.get(key, "-")) for key in header] for row in rows])
    plots = [make_plot(f"search_{key}", key.replace("_", " "), figure) for key, figure in study_figures(study)]
    best = [row["trial"] for row in rows[:TRIALS_WITH_CURVES]]
    search = Section("Search", "All trials, best first.", [table, *plots])
    return [search, *schedule_sections(study, runs / f"sweep-{name}"), trials_section(study, best, runs)]


def schedule_sections(study: optuna.Study, folder: Path) -> list[Section]:
    """The schedule that population based training found, in one section; none where the sweep has none."""
    if (schedules := SweepSchedules.read(folder)) is None:
        return []
    header, *rows = schedules.rows()
    plot = make_plot("search_schedule", "schedules of all trials", schedules.figure(study.user_attrs["space"]))
    text = f"The values that led to the weights of {schedules.best}, and the trials that trained with them."
    return [Section("Schedule", text, [Table(header, rows), plot])]


def trials_section(study: optuna.Study, numbers: Sequence[int], runs: Path) -> Section:
    """Losses and scores of some trials over their steps."""
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    histories = {
        f"trial {number}": metrics_from_file(trial_folder(study, trials[number], runs) / "history.jsonl")
        for number in numbers
    }
    blocks = curve_blocks(histories, "trial_")
    description = f"Curves of the best {len(numbers)}, as far as their folders are on this machine."
    return Section("Trials", description if blocks else "", blocks)


@dataclass
class ComparisonData:
    """A comparison on disk: the part that it scored (train, val, test), its table, and its variants that are done."""

    part: str
    rows: list[VariantRow]
    models: list[ReportedModel]


def read_comparison(name: str, runs: Path) -> ComparisonData:
    """A comparison's rows and models.

    Raises:
        UserError: it does not exist, or no variant is done.
    """
    folder = runs / f"compare-{name}"
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder}: holds no comparison; run src.compare, or name its folder of runs: --runs")
    base = load_yaml(folder / "config.yaml")
    comparison = base.pop("comparison")
    data = ComparisonData(comparison["part"], [], [])
    for variant in comparison["variants"]:
        file = folder / "rows" / f"{variant['name']}.json"
        if not file.is_file():
            data.rows.append(VariantRow(variant["name"], "failed"))
            continue
        data.rows.append(VariantRow(**json.loads(file.read_text(encoding="utf-8"))["row"]))
        if variant["model"]:  # evaluated with the experiment's data and settings, not its own
            config = with_overrides(base, variant["overrides"])
            data.models.append(ReportedModel(variant["model"], variant["name"], config))
        else:
            data.models.append(ReportedModel(str(runs / f"{name}-{variant['name']}"), variant["name"]))
    if not data.models:
        raise UserError(f"{folder}: no variant is done yet; run the comparison's command again to continue it")
    return data


def comparison_section(rows: Sequence[VariantRow]) -> Section:
    """The costs of a comparison's variants, as a table and as bars; their scores have a section of their own."""
    lines = [["state", *(row.state for row in rows)], ["split", *(row.split or "-" for row in rows)]]
    bars: list[Block] = []
    for name, title in COST_COLUMNS.items():
        values = {row.name: (row.numbers[name], None, None) for row in rows if name in row.numbers}
        if values:
            lines.append([title, *(format_number(row.numbers.get(name)) for row in rows)])
            bars.append(make_plot(f"cost_{name}", title, plot_score_bars(values, title)))
    table = Table(["", *(row.name for row in rows)], lines)
    return Section("Comparison", "The cost of each variant, as src.compare measured it.", [table, *bars])
