"""python -m src.submissions: all submissions with their scores, what the board said of them, and which to hand in last.

    python -m src.submissions submissions/mine.csv --public 0.7874 1.359 --rank 6

notes what the board said, in submissions/ledger.jsonl and in MLflow.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jsonargparse import Namespace

from src.common.errors import UserError, run_command
from src.config.cli import CommandParser, make_parser
from src.config.schema import Whole


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, notes the board's response, and prints the ledger."""
    options = make_options().parse_args(args)
    if bool(options.file) != bool(options.public) or (options.rank and not options.public):
        raise UserError("to note what the board said, give FILE --public QUALITY CAPTIONING, and perhaps --rank N")
    from src.evaluation import ledger_report
    from src.evaluation.submission_ledger import read_entries

    folder = Path(options.folder)
    rivals = ledger_report.read_rivals(Path(options.rivals)) if options.rivals else {}
    if options.public:
        note_response(folder, options)
    entries = read_entries(folder)
    boards = ledger_report.simulate_boards(entries)
    for line in ledger_report.ledger_warnings(entries):
        print(line, file=sys.stderr)
    sheet = ledger_report.format_rank_sheet(rivals, entries) if rivals else ""
    parts = [ledger_report.format_ledger(entries, boards), sheet, ledger_report.format_correlations(entries)]
    print("\n\n".join(filter(None, [*parts, ledger_report.suggest(entries, boards)])))
    return 0


def note_response(folder: Path, options: Namespace) -> None:
    """Writes what the board said into the ledger, and into MLflow where the submission has a run."""
    from src.evaluation.submission_ledger import BoardResponse, append_response, find_entry, log_response, read_entries

    entry = find_entry(read_entries(folder), options.file, folder)
    scores = {task: score.value for task, score in entry.scores.items()}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        quality, captioning = map(float, options.public)
    except ValueError as error:
        raise UserError(f"--public {' '.join(options.public)}: are no scores; type quality and captioning") from error
    response = BoardResponse(entry.file, entry.sha256, quality, captioning, options.rank, date, scores)
    append_response(folder, response)
    print(f"noted in {folder}/ledger.jsonl; {log_response(entry, response)}\n")


def make_options() -> CommandParser:
    """The command's options."""
    about = "Lists all submissions with their scores; notes what the board said of one."
    parser = make_parser("submissions", about, config=False)
    parser.add_argument("file", nargs="?", type=str, default="", help="the submission that --public is about")
    about = "the board's scores of FILE: quality and captioning; 0 for a score that the board does not have"
    parser.add_argument("--public", nargs=2, type=str, default=[], metavar=("QUALITY", "CAPTIONING"), help=about)
    parser.add_argument("--rank", type=Whole, default=0, help="its rank on the board; 0: unknown")
    about = "a CSV with team, quality and captioning: their ranks and ours, and the sums of ranks"
    parser.add_argument("--rivals", type=str, default="", help=about)
    parser.add_argument("--folder", type=str, default="submissions", help="folder of the submissions")
    return parser


if __name__ == "__main__":
    run_command(main)
