"""Metrics that a run logged, as curves."""

import json
from pathlib import Path

from src.reporting.metric_history import (
    MAX_POINTS,
    curve,
    loss_panels,
    metrics_from_file,
    resource_panels,
    score_panels,
)


def test_a_repeated_step_counts_once(tmp_path: Path) -> None:
    rows = [
        (0, {"val/plcc": 0.1}),
        (2, {"val/plcc": 0.5, "train/loss": 1}),
        (1, {"val/plcc": 0.3}),
        (2, {"val/plcc": 0.4}),
    ]
    lines = [json.dumps({"call": "metrics", "step": step, "metrics": metrics}) for step, metrics in rows]
    (tmp_path / "history.jsonl").write_text("\n".join(lines) + "\n")
    history = metrics_from_file(tmp_path / "history.jsonl")
    assert history == {"val/plcc": [(0.0, 0.1), (1.0, 0.3), (2.0, 0.4)], "train/loss": [(2.0, 1.0)]}
    assert metrics_from_file(tmp_path / "none.jsonl") == {}


def test_long_curves_are_thinned() -> None:
    points = curve((step, step) for step in range(10_001))
    assert len(points) == MAX_POINTS
    assert (points[0], points[-1]) == ((0.0, 0.0), (10_000.0, 10_000.0))


def test_panels_group_lines_by_loss_score_and_resource() -> None:
    points = [(0.0, 1.0), (60.0, 2.0)]
    history = dict.fromkeys(("train/loss", "val/loss", "train/new", "val/plcc", "system/gpu_0_percent"), points)
    assert loss_panels({"a": history}) == {"loss": {"train": points, "val": points}, "new": {"train": points}}
    assert list(loss_panels({"a": history, "b": history})["new"]) == ["a, train", "b, train"]
    assert score_panels({"a": history}) == {"plcc": {"a": points}}
    (lines,) = resource_panels({"a": history}).values()
    assert lines == {"gpu_0": [(0.0, 1.0), (1.0, 2.0)]}
