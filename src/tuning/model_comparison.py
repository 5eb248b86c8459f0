"""Several configs side by side: each variant in its own process, all in one table of costs and scores."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common.errors import UserError
from src.common.files import write_text
from src.config.schema import Config, TrackConfig, to_dict
from src.tuning.comparison_config import ComparisonPlan
from src.tuning.comparison_variant import VariantRow, VariantTask, fill_variant_cache, run_in_process, run_variant

if TYPE_CHECKING:
    from src.tracking.mlflow_tracker import Tracker

COST_COLUMNS = {
    "parameters_trained": "parameters, trained",
    "parameters": "parameters, all",
    "train_minutes": "training, minutes",
    "captions_per_second": "captions/s in training",
    "memory_mb": "peak memory, MB",
    "gpu_memory_mb": "peak GPU memory, MB",
    "predict_ms": "prediction, ms a photo",
}


def make_tasks(plan: ComparisonPlan, folder: Path) -> list[VariantTask]:
    """One task a variant; its row is kept in `folder`."""
    part, photos = plan.comparison.part, plan.comparison.photos
    return [
        VariantTask(variant.name, plan.configs[variant.name], variant.model, part, photos, folder)
        for variant in plan.comparison.variants
    ]


def check_runs(tasks: Sequence[VariantTask], path: Path) -> None:
    """Raises UserError where a variant's run folder holds a run of another config."""
    for task in tasks:
        if not task.model and (changed := task.run.changed(task.config)):
            where = f"{task.run.path} holds a run with another config ({', '.join(changed)})"
            raise UserError(f"{path}: variants: {task.name}: {where}; remove it, or set another track.name")


def run_comparison(plan: ComparisonPlan, tasks: Sequence[VariantTask], folder: Path, output: str) -> list[VariantRow]:
    """Works the missing rows out, one after the other, and writes the table after each."""
    from src.tracking.mlflow_tracker import Tracker

    settings = {"comparison": asdict(plan.comparison), **to_dict(plan.base)}
    track = TrackConfig(plan.base.track.experiment, plan.name)
    rows = [task.row() or VariantRow(task.name) for task in tasks]
    ready: set[str] = set()
    with Tracker.start(track, folder, settings, {"kind": "comparison"}) as tracker:
        for i, task in enumerate(tasks):
            if rows[i].state == "waiting":
                task.config.track.parent = tracker.run_id
                rows[i] = run_task(task, ready)
                tracker.log_metrics(row_metrics(rows[i]))
            write_tables(rows, tracker, output)
        tracker.set_tags({"failed": ", ".join(row.name for row in rows if row.state == "failed")})
    return rows


def run_task(task: VariantTask, ready: set[str]) -> VariantRow:
    """A variant's row; `ready` keeps in mind what the feature cache has been filled for."""
    from src.tracking.abandoned_runs import end_when_gone

    print(f"{task.name}: {'evaluating ' + task.model if task.model else 'training ' + task.run.path.name}", flush=True)
    reason, features = "", feature_key(task.config)
    if features not in ready and not task.model and features:
        reason = run_in_process(fill_variant_cache, task)
        ready |= set() if reason else {features}
    reason = reason or run_in_process(run_variant, task)
    row = task.row()
    if row and not reason:
        return row
    if not task.model and task.run.path.is_dir():
        end_when_gone(task.run.path, "FAILED")
    print(f"{task.name} failed: {reason}", flush=True)
    return VariantRow(task.name, "failed", reason=reason)


def feature_key(config: Config) -> str:
    """What decides which features a config takes from the cache; empty where it takes none."""
    if not config.data.cache or not config.model.backbone.frozen:
        return ""
    heads = [config.model.mos.enabled, config.model.decoder.enabled]
    return json.dumps([asdict(config.data), asdict(config.model.backbone), heads])


def write_tables(rows: Sequence[VariantRow], tracker: "Tracker", output: str) -> None:
    """Writes the table: into the comparison's folder, to MLflow, and where the command line says."""
    texts = {".md": markdown_table(rows), ".csv": csv_table(rows)}
    for ending, text in texts.items():
        tracker.log_text(text, f"table{ending}")
        if output:
            write_text(Path(output).with_suffix(ending), text)


def row_metrics(row: VariantRow) -> dict[str, float]:
    """A row's numbers and scores as MLflow takes them: VARIANT/NAME."""
    values = row.numbers | {name: score["value"] for name, score in row.scores.items()}
    return {f"{row.name}/{name}": value for name, value in values.items() if value is not None}


def score_names(rows: Sequence[VariantRow]) -> list[str]:
    """The scores that any row has, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row.scores))


def markdown_table(rows: Sequence[VariantRow]) -> str:
    """The table with a column a variant; what no variant has is left out. Below it, why variants failed."""
    lines = [["", *(row.name for row in rows)], ["state", *(row.state for row in rows)]]
    lines.append(["split", *(row.split or "-" for row in rows)])
    for name, title in COST_COLUMNS.items():
        if any(name in row.numbers for row in rows):
            lines.append([title, *(format_number(row.numbers.get(name)) for row in rows)])
    for name in score_names(rows):
        lines.append([name, *(format_interval(row.scores.get(name)) for row in rows)])
    lines.insert(1, ["---"] * len(lines[0]))
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    failed = "\n".join(f"- {row.name}: {row.reason}" for row in rows if row.state == "failed")
    return table + "\n" + (f"\nFailed:\n{failed}\n" if failed else "")


def format_number(value: float | None) -> str:
    """1,234,567, 1,234, 12.3, 0.123; a dash where it is not known."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"


def format_interval(score: dict[str, float | None] | None) -> str:
    """0.502 [0.467, 0.539]; counts as they are."""
    if score is None or score["value"] is None:
        return "-"
    if score["low"] is None:
        return format_number(score["value"])
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def csv_table(rows: Sequence[VariantRow]) -> str:
    """The table with a row a variant; a score has the columns NAME, NAME_low and NAME_high."""
    import pandas as pd

    records: list[dict[str, Any]] = []
    for row in rows:
        record: dict[str, Any] = {"variant": row.name, "state": row.state, "split": row.split}
        record |= {name: row.numbers.get(name) for name in COST_COLUMNS}
        for name in score_names(rows):
            score = row.scores.get(name, {})
            record |= {name: score.get("value"), f"{name}_low": score.get("low"), f"{name}_high": score.get("high")}
        records.append(record | {"reason": row.reason})
    return pd.DataFrame(records).to_csv(index=False)
