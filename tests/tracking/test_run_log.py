"""A run's log: nothing is lost or doubled by a full disk, a kill or a crash."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from src.tracking.run_log import RunLog, read_metrics


def metric(value: int) -> dict[str, Any]:
    return {"call": "metrics", "metrics": {"x": value}, "step": value, "time": 1}


def waiting(log: RunLog) -> list[dict[str, Any]]:
    return [call for call, _ in log.waiting()]


def test_a_call_that_a_full_disk_cuts_short_is_the_only_one_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunLog(tmp_path)
    log.append(metric(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.file.stat().st_size + 10, limits[1]))
    try:
        log.append(metric(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.append(metric(2))
    assert waiting(log) == [metric(0), metric(2)]
    assert ["cannot be written" in record.getMessage() for record in caplog.records] == [True]


def test_damaged_lines_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [json.dumps(metric(value)) for value in range(3)]
    damaged = ['{"call": "metr' + lines[1], "\0\0", "7"]
    (tmp_path / "history.jsonl").write_text("\n".join([lines[0], *damaged, lines[2]]))
    log = RunLog(tmp_path)
    log.append(metric(3))
    assert waiting(log) == [metric(0), metric(2), metric(3)]
    [record] = caplog.records
    assert "3 damaged lines" in record.getMessage()
    assert read_metrics(log.file) == {"x": [(0, 0), (2, 2), (3, 3)]}


def test_the_cursor_outlives_the_process(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for value in range(4):
        log.append(metric(value))
    calls = log.waiting()
    log.advance(calls[2][1], [calls[0][0]])  # two were taken, one was postponed
    with log.file.open("a") as file:
        file.write('{"call": "metr')  # what a kill within a write leaves
    assert waiting(RunLog(tmp_path)) == [metric(0), metric(3)]
    again = RunLog(tmp_path)
    again.append(metric(4))
    assert waiting(again) == [metric(0), metric(3), metric(4)]
    assert waiting(RunLog(tmp_path)) == [metric(0), metric(3), metric(4)]


def test_calls_after_a_crash_that_lost_the_end_of_the_log_are_sent(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.append(metric(0))
    log.append(metric(1))
    log.advance(log.waiting()[-1][1], [])
    log.file.write_text(json.dumps(metric(0)) + "\n")
    log = RunLog(tmp_path)
    log.append(metric(2))
    assert waiting(log) == [metric(2)]


def test_a_cursor_that_cannot_be_written_still_counts_in_its_process(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.append(metric(0))
    log.cursor.mkdir()
    with pytest.raises(OSError, match="mlflow_cursor"):
        log.advance(log.waiting()[-1][1], [])
    assert waiting(log) == []


def test_of_a_step_done_twice_the_later_value_counts(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for step, value in ((2, 0.5), (1, 0.25), (2, 0.75)):
        log.append({"call": "metrics", "metrics": {"val/plcc": value}, "step": step, "time": 1})
    log.append({"call": "end", "status": "FINISHED", "time": 1})
    assert read_metrics(log.file) == {"val/plcc": [(1.0, 0.25), (2.0, 0.75)]}
    assert read_metrics(tmp_path / "absent.jsonl") == {}
