"""Submissions: a CSV, checked before it replaces an older one, and a json with its provenance."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from src.common.errors import UserError
from src.common.files import atomic_write, check_output_file, sha256, write_text
from src.data.csv_table import parse_rows
from src.data.formats.base import is_missing
from src.data.formats.samsung import LARGEST
from src.tracking.environment import command_line, git_version, library_versions

NAME, MOS, COMMENTS = "img_name", "mos", "comments"
MOS_RANGE = (0.0, 10.0)  # of the challenge's mos


@dataclass
class Submission:
    """Predictions for images, in the order of the sample submission.

    Attributes:
        names: of the images, exactly as in the data's table.
        mos: of each image, in the data's units; None where the column is left out.
        comments: of each image; None where the column is left out.
    """

    names: list[str]
    mos: list[float] | None = None
    comments: list[str] | None = None

    @property
    def columns(self) -> list[str]:
        """The CSV's columns, in order."""
        return [NAME] + [MOS] * (self.mos is not None) + [COMMENTS] * (self.comments is not None)

    def rows(self) -> list[list[str]]:
        """The CSV's rows without its header: mos with six decimals, comments on one line."""
        columns: list[list[str]] = [self.names]
        if self.mos is not None:
            columns.append([f"{mos:.6f}" for mos in self.mos])
        if self.comments is not None:
            columns.append([single_line(comment) for comment in self.comments])
        return [list(row) for row in zip(*columns, strict=True)]


def single_line(comment: str) -> str:
    """A comment on one line: line breaks, control characters and runs of spaces become one space."""
    shown = "".join(" " if ord(letter) < 32 or ord(letter) == 127 else letter for letter in comment)
    return " ".join(shown.encode("utf-8", "replace").decode().split())


def check_submission_path(path: Path) -> None:
    """Raises UserError where no submission can be written to `path`; for a check before the work."""
    if path.suffix != ".csv":
        raise UserError(f"{path}: a submission's name ends in .csv, for its json is written beside it")
    check_output_file(path, "choose another --output")


def write_submission(
    path: Path, submission: Submission, provenance: dict[str, Any], mos_range: tuple[float, float] = MOS_RANGE
) -> None:
    """Writes X.csv and, beside it, X.json: `provenance` with command, CSV's SHA-256, git, versions and date.

    The CSV is checked before it replaces an older one. The json goes first: should the process die between the two,
    its sha256 does not match the old CSV, which `matches_json` reports.

    Raises:
        UserError: the check failed, or the disk is full; an older submission stays.
    """
    check_submission_path(path)
    try:
        with atomic_write(path) as part:
            _write_rows(part, submission)
            _check_written(part, path, submission, mos_range)
            facts = provenance | _file_provenance(submission, part)
            write_text(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    except OSError as error:
        remedy = "make room or choose another --output"
        raise UserError(f"{path}: cannot be written ({error.strerror}); {remedy}") from error


def _write_rows(path: Path, submission: Submission) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([submission.columns, *submission.rows()])
    except UnicodeEncodeError as error:
        shown = error.object.encode("utf-8", "backslashreplace").decode().strip()
        raise UserError(f"photo name {shown!r} is not UTF-8: rename the file") from error


def _check_written(part: Path, path: Path, submission: Submission, mos_range: tuple[float, float]) -> None:
    try:
        rows = check_submission(part, submission.names, submission.columns, mos_range)
    except UserError as error:
        raise UserError(str(error).replace(str(part), str(path), 1) + "; nothing was written") from error
    if rows != submission.rows():
        raise UserError(f"{path}: reads back otherwise than it was written; nothing was written")


def _file_provenance(submission: Submission, file: Path) -> dict[str, Any]:
    commit, dirty = git_version()
    return {
        "command": command_line(),
        "photos": len(submission.names),
        "columns": submission.columns,
        "sha256": sha256(file),
        "git": {"commit": commit, "dirty": dirty},
        "versions": library_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def matches_json(path: Path) -> bool | None:
    """Whether a submission is the file that its json describes; None without a json that can be read."""
    try:
        return bool(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"] == sha256(path))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_submission(
    path: Path,
    names: Sequence[str],
    columns: Sequence[str] | None = None,
    mos_range: tuple[float, float] = MOS_RANGE,
) -> list[list[str]]:
    """Checks that a submission can be handed in: equal rows for csv and pandas, one for each image, nothing missing.

    Args:
        path: the CSV.
        names: image names in their order.
        columns: its columns; None: any of img_name with mos, comments or both.
        mos_range: lowest and highest mos allowed.

    Returns:
        The rows without the header.

    Raises:
        UserError: the first mistake, with its row.
    """
    header, rows = parse_submission(path)
    allowed = [list(columns)] if columns else [[NAME, MOS, COMMENTS], [NAME, COMMENTS], [NAME, MOS]]
    if header not in allowed:
        raise UserError(f"{path}: has columns {', '.join(header)}; they must be {', '.join(allowed[0])}")
    if len(rows) != len(names):
        raise UserError(f"{path}: has {len(rows)} rows for {len(names)} photos; there must be one row a photo")
    if not rows:
        raise UserError(f"{path}: has no rows; there must be one row a photo")
    first: dict[str, int] = {}
    for number, (row, name) in enumerate(zip(rows, names, strict=True), start=2):
        where = f"{path}, row {number}"
        if not name or row[0] != name:
            raise UserError(f"{where}: img_name is {row[0]!r}, must be {name or 'a name'!r}")
        if (other := first.setdefault(name, number)) != number:
            raise UserError(f"{where}: img_name {name!r} is that of row {other} too; there must be one a photo")
        _check_values(dict(zip(header, row, strict=True)), f"{where} ({name})", mos_range)
    return rows


def _check_values(row: dict[str, str], where: str, mos_range: tuple[float, float]) -> None:
    low, high = mos_range
    if MOS in row and not low <= _finite_mos(row[MOS], where) <= high:
        raise UserError(f"{where}: mos {row[MOS]} is outside {low:g} to {high:g}")
    if COMMENTS in row and is_missing(row[COMMENTS]):
        raise UserError(f"{where}: the comment is empty or a word for a missing one ({row[COMMENTS]!r})")


def _finite_mos(text: str, where: str) -> float:
    try:
        mos = float(text)
    except ValueError:
        mos = math.nan
    if not math.isfinite(mos):
        raise UserError(f"{where}: mos {text!r} is no finite number")
    return mos


def parse_submission(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text, the same by Python's csv and by pandas.

    Raises:
        UserError: missing, not UTF-8, a byte order mark, no valid CSV, ragged rows, or read differently by the two.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if data.startswith(b"\xef\xbb\xbf"):
        raise UserError(f"{path}: begins with a byte order mark; save it as UTF-8 without BOM")
    header, *rows = parse_rows(text, path) or [[]]
    for i, row in enumerate(rows):
        if len(row) != len(header):
            raise UserError(f"{path}, row {i + 2}: has {len(row)} fields, the header {len(header)}; quote commas")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: pandas cannot read it: {' '.join(str(error).split())}") from error
    if frame.columns.tolist() != header or frame.to_numpy().tolist() != rows:
        raise UserError(f"{path}: pandas and csv read it differently; look for stray quotes")
    return header, rows


def read_submission(path: Path) -> Submission:
    """A submission from a file. Its mos may have any range that scores can be computed from.

    Raises:
        UserError: it is none, see `check_submission`.
    """
    header, rows = parse_submission(path)
    names = [row[0] for row in rows if row]
    check_submission(path, names, mos_range=(-LARGEST, LARGEST))
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=False)) if rows else {}
    mos = [float(text) for text in columns.get(MOS, [])] if MOS in header else None
    return Submission(names, mos, columns.get(COMMENTS, []) if COMMENTS in header else None)
