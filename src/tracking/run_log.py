"""A run's log: all that it tells MLflow, in order, one JSON line a call, in a file that is only appended to.

A cursor beside it says how much MLflow has taken, so that what a killed process could not send is sent when its run
goes on. The run's curves are read from the log. A call is {"call": "metrics", "metrics": {NAME: VALUE}, "step": 0,
"time": 0}, or a begin, params, tags, artifact or end.
"""

import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from src.common.files import write_text

LOG, CURSOR = "history.jsonl", "mlflow_cursor.json"  # in a run's folder
Call = dict[str, Any]
log = logging.getLogger(__name__)


class RunLog:
    """The log of one run and its cursor. Only the process that holds the run makes one.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.file, self.cursor = folder / LOG, folder / CURSOR
        self.lock = threading.Lock()
        state = json.loads(self.cursor.read_text(encoding="utf-8")) if self.cursor.exists() else {}
        self.position: int = state.get("position", 0)  # bytes of the file that MLflow has taken
        self.postponed: list[Call] = state.get("postponed", [])  # calls before it that MLflow could not take yet
        if self.file.exists():
            self._repair()

    def append(self, call: Call) -> None:
        """Adds a call. A full disk loses it, with a warning: training goes on."""
        try:
            with self.lock:
                append_line(self.file, json.dumps(call))
        except OSError as error:
            log.warning("%s: cannot be written (%s); some values are not tracked", self.file, error.strerror)

    def waiting(self) -> list[tuple[Call, int]]:
        """Calls that MLflow has not taken, oldest first, each with the position behind it."""
        with self.lock:
            text = read_from(self.file, self.position) if self.file.exists() else b""
        calls = [(call, self.position + end) for call, end in parse_calls(text)]
        return [(call, self.position) for call in self.postponed] + calls

    def advance(self, position: int, postponed: list[Call]) -> None:
        """Notes that MLflow has taken all calls before a position but those postponed.

        Raises:
            OSError: the cursor cannot be written; this process has noted it all the same.
        """
        if (position, postponed) != (self.position, self.postponed):
            self.position, self.postponed = position, postponed
            write_text(self.cursor, json.dumps({"position": position, "postponed": postponed}))

    def _repair(self) -> None:
        """Ends a line that a kill cut short, and warns of damaged ones: they are skipped."""
        # A crash of the machine may have lost the end of the log, which was not yet on the disk, but not the cursor.
        self.position = min(self.position, self.file.stat().st_size)
        text = read_from(self.file, self.position)
        if text and not text.endswith(b"\n"):
            append_line(self.file, "")
        lines = [line for line in text.split(b"\n") if line]
        if damaged := len(lines) - len(list(parse_calls(text + b"\n"))):
            log.warning("%s: %d damaged lines are not sent", self.file, damaged)


def read_metrics(file: Path) -> dict[str, list[tuple[float, float]]]:
    """Metric -> points (step, value) by step, of a log; empty where it is missing.

    Of a step that was done twice, after a kill, the later value counts.
    """
    series: dict[str, dict[float, float]] = {}
    for call, _ in parse_calls(file.read_bytes() if file.exists() else b""):
        if call["call"] == "metrics":
            for name, value in call["metrics"].items():
                series.setdefault(name, {})[float(call["step"])] = float(value)
    return {name: sorted(points.items()) for name, points in series.items()}


def read_first_tags(file: Path) -> dict[str, str]:
    """The tags with which a run began, of its log; empty where it is missing."""
    calls = parse_calls(file.read_bytes() if file.exists() else b"")
    return next((call["tags"] for call, _ in calls if call["call"] == "begin"), {})


def parse_calls(text: bytes) -> Iterator[tuple[Call, int]]:
    """The calls of complete lines, each with the position behind its line; damaged lines are skipped."""
    position = 0
    for line in text.split(b"\n")[:-1]:
        position += len(line) + 1
        try:
            call = json.loads(line)
        except ValueError:
            continue
        if isinstance(call, dict) and "call" in call:
            yield call, position


def read_from(file: Path, position: int) -> bytes:
    """The bytes of a file from a position on."""
    with file.open("rb") as source:
        source.seek(position)
        return source.read()


def append_line(file: Path, line: str) -> None:
    """Adds a line to a file, all of it or, where the disk takes no more, nothing.

    Raises:
        OSError: it could not be added.
    """
    size = file.stat().st_size if file.exists() else 0
    try:
        with file.open("a", encoding="utf-8") as end:
            end.write(line + "\n")
    except OSError:
        if file.exists() and file.stat().st_size > size:
            os.truncate(file, size)
        raise
