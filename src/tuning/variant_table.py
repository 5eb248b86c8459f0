"""The table of a comparison: a column a variant, with costs and scores; as Markdown and as CSV.

Held by tests/tuning/test_model_comparison.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

COST_COLUMNS = {
    "parameters_trained": "parameters, trained",
    "parameters": "parameters, all",
    "train_minutes": "training, minutes",
    "captions_per_second": "captions/s in training",
    "memory_mb": "peak memory, MB",
    "gpu_memory_mb": "peak GPU memory, MB",
    "predict_ms": "prediction, ms a photo",
}


@dataclass
class VariantRow:
    """A variant in the table.

    Attributes:
        name: the variant's.
        state: waiting, trained, evaluated or failed.
        split: official, random or leaking_pairs.
        reason: why it failed.
        numbers: cost by name, as in COST_COLUMNS; unknown costs are left out.
        scores: name -> {value, low, high}; low and high are None where there is no interval.
    """

    name: str
    state: str = "waiting"
    split: str = ""
    reason: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    scores: dict[str, dict[str, float | None]] = field(default_factory=dict)


def row_metrics(row: VariantRow) -> dict[str, float]:
    """A row's numbers and scores as metrics of MLflow: VARIANT/NAME."""
    values = row.numbers | {name: score["value"] for name, score in row.scores.items()}
    return {f"{row.name}/{name}": value for name, value in values.items() if value is not None}


def score_names(rows: Sequence[VariantRow]) -> list[str]:
    """The scores that any row has, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row.scores))


def markdown_table(rows: Sequence[VariantRow]) -> str:
    """The table with a column a variant, without lines that no variant has; below it, the reasons of failures."""
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
    """1,234,567, 1,234, 12.3, 0.123; a dash for None."""
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
    records: list[dict[str, Any]] = []
    for row in rows:
        record: dict[str, Any] = {"variant": row.name, "state": row.state, "split": row.split}
        record |= {name: row.numbers.get(name) for name in COST_COLUMNS}
        for name in score_names(rows):
            score = row.scores.get(name, {})
            record |= {name: score.get("value"), f"{name}_low": score.get("low"), f"{name}_high": score.get("high")}
        records.append(record | {"reason": row.reason})
    return pd.DataFrame(records).to_csv(index=False)
