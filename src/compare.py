"""python -m src.compare configs/compare/X.yaml: variants of one experiment in one table.

Each variant runs in its own process, one after the other. A finished variant is on disk and is not run again; one that
was cut short resumes from its run's checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path

from src.common.errors import UserError, run_command
from src.config.cli import make_parser


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, runs every variant, and prints the table. 1: a variant failed."""
    parser = make_parser("compare", "Compares models. The same command goes on where it stopped.", config=False)
    about = "a comparison's YAML, such as configs/compare/X.yaml"
    parser.add_argument("file", nargs="?", type=str, default="", help=about)
    parser.add_argument("--config", type=str, default="", help="the same")
    parser.add_argument("--output", type=str, default="", help="also write the table here: X.md, and X.csv beside it")
    options = parser.parse_args(args)
    if bool(options.file) == bool(options.config):
        raise UserError("name one comparison: python -m src.compare configs/compare/X.yaml")
    from src.tuning.comparison_config import load_comparison
    from src.tuning.model_comparison import check_runs, make_tasks, run_comparison
    from src.tuning.variant_table import markdown_table

    path = Path(options.file or options.config)
    plan = load_comparison(path)
    folder = Path(plan.base.train.runs) / f"compare-{plan.name}"
    tasks = make_tasks(plan, folder / "rows")
    check_runs(tasks, path)
    rows = run_comparison(plan, tasks, folder, options.output)
    print(markdown_table(rows))
    print(f"wrote {folder}/table.md and table.csv")
    return int(any(row.state == "failed" for row in rows))


if __name__ == "__main__":
    run_command(main)
