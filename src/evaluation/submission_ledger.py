"""The ledger of submissions: each file of a folder with its model and scores, and what the board said of it.

The board's responses stand in ledger.jsonl of the folder, one a line, which is only appended to. A response belongs to
a file's content (SHA-256), so it stays right where a file is renamed or written anew.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from src.common.errors import UserError, one_line
from src.common.files import sha256
from src.data.formats.base import read_text
from src.inference.submission import COMMENTS, MOS, Submission, matches_json, read_submission
from src.metrics.base import Score, Scores
from src.metrics.challenge import TASKS
from src.metrics.compute import score_images
from src.tracking.finished_runs import find_group, read_json
from src.tracking.held_out import BLEND_SUFFIX, HeldOutPredictions, pool_held_out, read_blend, read_held_out
from src.tracking.mlflow_client import open_client
from src.tracking.mlflow_sync import read_run_id
from src.tracking.run_group import OOF_SCORES
from src.tracking.run_log import append_line

LEDGER = "ledger.jsonl"


@dataclass(frozen=True)
class BoardResponse:
    """What the board said of a submission.

    Attributes:
        file: name of the submission in its folder.
        sha256: of its content.
        quality: the board's score, 0..1.
        captioning: the board's score; 0 where the board has none.
        rank: on the board; 0: not typed in.
        date: of the note.
        scores: quality and captioning of our own at that time, where known.
    """

    file: str
    sha256: str
    quality: float
    captioning: float
    rank: int = 0
    date: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass
class LedgerEntry:
    """A submission.

    Attributes:
        file: its name in the folder.
        sha256: of its bytes; empty: the file is gone.
        content: hash of its values, whatever their order and format.
        facts: its json; empty where it has none, or that of another file.
        held_out: predictions of its model, or blend, for images that it was not trained on; None: unknown.
        scores: own quality and captioning, as far as known.
        origin: out of fold, validation, held out (by an ensemble's members), noted (with the response), or empty.
        board: what the board said of it.
        problem: why it cannot be handed in; empty: it can.
    """

    file: str
    sha256: str = ""
    content: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    held_out: HeldOutPredictions | None = None
    scores: dict[str, Score] = field(default_factory=dict)
    origin: str = ""
    board: BoardResponse | None = None
    problem: str = ""

    @property
    def model(self) -> str:
        """Name of its run or group, or those of the members that it joins."""
        weights = self.facts.get("blend", {}).get("weights", {})
        names = list(weights) or [member.get("run") or "?" for member in self.facts.get("members", [])]
        joined = " + ".join(names) if len(names) < 4 else f"{len(names)} models"
        return self.facts.get("group") or self.facts.get("run") or joined


def read_entries(folder: Path) -> list[LedgerEntry]:
    """All submissions of a folder, by name, and after them those that the board scored and that are gone.

    Raises:
        UserError: the ledger is damaged.
    """
    board = read_ledger(folder / LEDGER)
    files = sorted(path for path in folder.glob("*.csv") if not path.name.endswith(BLEND_SUFFIX))
    entries = [read_entry(path, board) for path in files]
    present = {entry.sha256 for entry in entries}
    return entries + [entry_of_response(note) for note in board.values() if note.sha256 not in present]


def read_entry(path: Path, board: Mapping[str, BoardResponse]) -> LedgerEntry:
    """The entry of a file; its problem where it is no submission."""
    entry = LedgerEntry(path.name, sha256(path))
    entry.board = board.get(entry.sha256)
    try:
        entry.content = content_hash(read_submission(path))
        if matches_json(path) is False:
            entry.problem = "was changed after its json was written"
        else:
            entry.facts = read_json(path.with_suffix(".json"))
            entry.held_out = find_held_out(path, entry.facts)
    except UserError as error:
        entry.problem = one_line(error).removeprefix(f"{path}").lstrip(":, ")
    entry.scores, entry.origin = own_scores(entry)
    return entry


def entry_of_response(note: BoardResponse) -> LedgerEntry:
    """The entry of a submission whose file is gone."""
    scores = {name: Score(value) for name, value in note.scores.items()}
    return LedgerEntry(note.file, scores=scores, origin="noted", board=note, problem="the file is gone or was changed")


def content_hash(submission: Submission) -> str:
    """Equal for submissions of the same values, in whatever order and format."""
    mos = submission.mos or [math.nan] * len(submission.names)
    rows = sorted(zip(submission.names, map(repr, mos), submission.comments or submission.names, strict=True))
    return hashlib.sha256(repr((submission.columns, rows)).encode("utf-8", "surrogateescape")).hexdigest()


def find_held_out(path: Path, facts: Mapping[str, Any]) -> HeldOutPredictions | None:
    """Of a blend with learned weights the table beside it; else those of its group, its run, or its members' mean."""
    table = path.with_suffix(BLEND_SUFFIX)
    if blend := facts.get("blend"):
        return read_blend(table) if table.is_file() and sha256(table) == blend["table"] else None
    if folder := run_folder(facts):
        return read_held_out(folder)
    folders = [run_folder(member) for member in facts.get("members", [])]
    parts = [read_held_out(folder) for folder in folders if folder]
    known = [part for part in parts if part]
    return pool_held_out(known) if known and len(known) == len(folders) else None


def run_folder(facts: Mapping[str, Any]) -> Path | None:
    """The folder of a group or run on this machine; None: it is not here."""
    if name := facts.get("group"):
        group = find_group(name)
        return group.folder if group else None
    model = Path(facts.get("model") or "")
    return model.parent if model.name == "model" and model.parent.is_dir() else None


def own_scores(entry: LedgerEntry) -> tuple[dict[str, Score], str]:
    """Quality and captioning of our own, of the columns that the file has, and where they are from.

    The first of: the blend's out of fold, the group's, the model's on validation images, the held-out predictions'.
    """
    columns = entry.facts.get("columns", [])
    tasks = [task for task, column in zip(TASKS, (MOS, COMMENTS), strict=True) if column in columns]
    folder = run_folder(entry.facts)
    group = read_json(folder / OOF_SCORES) if folder else {}
    for scores, origin in (
        (entry.facts.get("out_of_fold_scores"), "out of fold"),
        (group.get("scores", {}).get("all"), "out of fold"),
        (entry.facts.get("validation_scores"), "validation"),
    ):
        if scores:
            return {name: Score(**scores[name]) for name in tasks if name in scores}, origin
    if entry.held_out:
        scores = score_held_out(entry.held_out, intervals=True).scores
        return {name: scores[name] for name in tasks if name in scores}, "held out"
    return {}, ""


def score_held_out(held_out: HeldOutPredictions, intervals: bool = False) -> Scores:
    """All scores but METEOR, which is slow to start."""
    names = [name for _, name in held_out.images]
    values = held_out.mos, held_out.mos_true, held_out.captions, held_out.references
    return score_images(names, *values, intervals=intervals)


def find_entry(entries: list[LedgerEntry], name: str, folder: Path) -> LedgerEntry:
    """The entry of a file: by its path, or its name in the folder, with or without .csv.

    Raises:
        UserError: there is none, or it is no submission.
    """
    wanted = Path(name).name.removesuffix(".csv") + ".csv"
    present = [entry for entry in entries if entry.sha256]
    same_folder = Path(name).parent in (Path(), folder) or Path(name).resolve().parent == folder.resolve()
    entry = next((entry for entry in present if same_folder and entry.file == wanted), None)
    if entry is None:
        names = ", ".join(entry.file for entry in present) or "there are none"
        raise UserError(f"{name or '--public'}: name the submission that was handed in, one of {folder}: {names}")
    if not entry.content:
        raise UserError(f"{folder / entry.file}: {entry.problem}")
    return entry


def read_ledger(path: Path) -> dict[str, BoardResponse]:
    """The newest response to each submission, by SHA-256; none without the file.

    Raises:
        UserError: a line is damaged.
    """
    responses: dict[str, BoardResponse] = {}
    lines = read_text(path).splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            response = parse_response(line, f"{path}, line {number}")
            responses[response.sha256] = response
    return responses


def parse_response(line: str, where: str) -> BoardResponse:
    """The response of a line of the ledger. Raises UserError where it is none."""
    try:
        tree = json.loads(line)
        names = {item.name for item in fields(BoardResponse)}
        response = BoardResponse(**{key: value for key, value in tree.items() if key in names})
        check_response(response)
    except (ValueError, TypeError, AttributeError, UserError) as error:
        raise UserError(f"{where}: is no response of the board ({one_line(error)}); correct or remove it") from error
    return response


def check_response(response: BoardResponse) -> None:
    """Raises UserError where the board cannot have said so."""
    if not 0 <= response.quality <= 1:
        raise UserError(f"--public {response.quality:g}: quality is within 0 to 1; type quality, then captioning")
    if not 0 <= response.captioning < math.inf:
        raise UserError(f"--public {response.captioning:g}: captioning is at least 0, and finite")


def append_response(folder: Path, response: BoardResponse) -> None:
    """Adds a response to the folder's ledger. Raises UserError where the board cannot have said so."""
    check_response(response)
    append_line(folder / LEDGER, json.dumps(asdict(response), ensure_ascii=False))


def log_response(entry: LedgerEntry, response: BoardResponse) -> str:
    """Logs a response to the submission's run in MLflow. Returns where it is, or why it is not there."""
    folder = run_folder(entry.facts)
    run_id = (read_run_id(folder) if folder else "") or entry.facts.get("run_id", "")
    if not run_id:
        return "not in MLflow: the submission has no run of its own"
    values = {"quality": response.quality, "captioning": response.captioning, "rank": float(response.rank)}
    try:
        client = open_client()
        for name, value in values.items():
            if value:
                client.log_metric(run_id, f"board/public/{name}", value)
        client.set_tag(run_id, "submission", response.file)
        client.set_tag(run_id, "submission_sha256", response.sha256)
    except Exception as error:  # whatever a store, a proxy or a network can raise: the ledger has it
        return f"not in MLflow: {one_line(error)[:200]}"
    return f"logged to run {run_id} in MLflow"
