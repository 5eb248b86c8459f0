"""The sections that a sweep and a comparison add to the report on their models."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from src.common.errors import UserError
from src.plots import report_figures as figures
from src.reporting.curves import Logged, loss_panels, score_panels, thin_curve
from src.reporting.html import Block, Section, Table, make_picture
from src.reporting.model_data import ReportedModel
from src.tracking.run_log import read_metrics
from src.tuning.comparison_config import with_overrides
from src.tuning.comparison_table import COST_COLUMNS, VariantRow, format_number
from src.tuning.study import read_study
from src.tuning.study_figures import study_figures as study_figures
from src.tuning.study_table import trial_cell, trial_folder, trial_rows

if TYPE_CHECKING:
    import optuna

SHOWN = 6  # trials whose curves are drawn


def sweep_sections(name: str, runs: Path) -> list[Section]:
    """A sweep's trials as a table, the search's figures, and the best trials' curves.

    Raises:
        UserError: there is no such sweep.
    """
    study = read_study(name, runs)
    rows = trial_rows(study, runs)
    head = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(head, [[trial_cell(row.get(key, "-")) for key in head] for row in rows])
    search = Section("Search", "Its trials, best first.", [table])
    search.blocks += [
        make_picture(f"search_{key}", key.replace("_", " "), figure) for key, figure in study_figures(study)
    ]
    return [search, trial_curves(study, [row["trial"] for row in rows[:SHOWN]], runs)]


def trial_curves(study: "optuna.Study", numbers: Sequence[int], runs: Path) -> Section:
    """Losses and scores of some trials over their steps."""
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    logged: dict[str, Logged] = {}
    for one in numbers:
        history = trial_folder(study, trials[one], runs) / "history.jsonl"
        logged[f"trial {one}"] = thin_curve(read_metrics(history))
    section = Section("Trials", f"Curves of the best {len(numbers)}, as far as their folders are here.")
    for key, groups in (("trial_losses", loss_panels(logged)), ("trial_scores", score_panels(logged))):
        if groups:
            section.blocks.append(make_picture(key, key.replace("_", " "), figures.curve_panels(groups)))
    return section if section.blocks else Section("Trials")


@dataclass
class ComparisonData:
    """A comparison on disk.

    Attributes:
        part: the photos it was scored on.
        rows: of its table, in its order.
        models: each variant that did not fail, to be asked as the comparison asked it.
    """

    part: str
    rows: list[VariantRow]
    models: list[ReportedModel]


def read_comparison(name: str, runs: Path) -> ComparisonData:
    """A comparison's rows and models.

    Raises:
        UserError: there is none, or no variant is done.
    """
    folder = runs / f"compare-{name}"
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder}: holds no comparison; run src.compare, or name its folder of runs: --runs")
    base = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    told = base.pop("comparison")
    found = ComparisonData(told["part"], [], [])
    for variant in told["variants"]:
        file = folder / "rows" / f"{variant['name']}.json"
        if not file.is_file():
            found.rows.append(VariantRow(variant["name"], "failed"))
            continue
        found.rows.append(VariantRow(**json.loads(file.read_text(encoding="utf-8"))["row"]))
        found.models.append(reported_variant(variant, base, str(runs / f"{name}-{variant['name']}")))
    if not found.models:
        raise UserError(f"{folder}: no variant is done yet; the comparison's own command goes on with it")
    return found


def reported_variant(variant: dict[str, Any], base: dict[str, Any], run: str) -> ReportedModel:
    """A variant as the comparison had it answer: a model of its own run by its own config, another by the experiment's.

    Args:
        variant: as the comparison's file says.
        base: the experiment, nested.
        run: the folder of the variant's run, where it has one.
    """
    if not variant["model"]:
        return ReportedModel(run, variant["name"])
    return ReportedModel(variant["model"], variant["name"], with_overrides(base, variant["overrides"]))


def comparison_section(rows: Sequence[VariantRow]) -> Section:
    """What the variants of a comparison cost, as a table and as bars; their scores have a section of their own."""
    lines = [["state", *(row.state for row in rows)], ["split", *(row.split or "-" for row in rows)]]
    bars: list[Block] = []
    for name, title in COST_COLUMNS.items():
        known = {row.name: (row.numbers[name], None, None) for row in rows if name in row.numbers}
        if known:
            lines.append([title, *(format_number(row.numbers.get(name)) for row in rows)])
            bars.append(make_picture(f"cost_{name}", title, figures.score_bars(known, title)))
    return Section(
        "Comparison",
        "What each variant cost, as src.compare measured it.",
        [Table(["", *(row.name for row in rows)], lines), *bars],
    )
