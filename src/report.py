"""python -m src.report: one HTML file on a model, on several side by side, on a sweep or a comparison.
Held by tests/reporting/test_report_builder.py.
"""

from collections.abc import Sequence
from pathlib import Path

from src.common.errors import EXIT_FALLBACKS, UserError, run_command
from src.common.files import check_output_file
from src.config.cli import CommandParser, add_prediction_options, make_parser, parse_with_overrides
from src.config.schema import Count
from src.data.split import PARTS
from src.tracking.run_group import group_members


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, writes the report, and prints its path. 3: some images have a fallback."""
    values, overrides = parse_with_overrides(make_options(), args)
    if sum(map(bool, (values.model, values.sweep, values.comparison))) != 1:
        raise UserError("give one of --model RUN, --sweep NAME or --comparison NAME")
    for name in values.model:
        group_members(name)  # before torch loads, which takes seconds
    if values.output:
        check_output_file(Path(values.output))

    from src.evaluation.evaluation_set import EvaluationOptions
    from src.reporting.html import write_page
    from src.reporting.report_builder import build_report, log_report

    report = build_report(EvaluationOptions(values, overrides))
    path = Path(values.output or f"reports/{report.name}.html")
    size = write_page(report.page, path)
    print(f"wrote {path}: {size / 1e6:.1f} MB, {len(report.page.plots())} figures")
    if values.log:
        log_report(report, path)
    return EXIT_FALLBACKS if report.has_fallbacks else 0


def make_options() -> CommandParser:
    """The command's options."""
    parser = make_parser("report", "One self-contained HTML file: scores, plots, photos.", config=False)
    about = "model folder, run name, run id, best, or a group; several are shown side by side"
    parser.add_argument("--model", type=str, nargs="+", default=[], help=about)
    parser.add_argument("--sweep", type=str, default="", help="name of a sweep: its search and its best model")
    parser.add_argument("--comparison", type=str, default="", help="name of a comparison: its table and its models")
    parser.add_argument("--runs", type=str, default="runs", help="folder of run folders")
    parser.add_argument("--part", choices=PARTS, default="val", help="which photos of the config's split")
    parser.add_argument("--config", type=str, default="", help="predict this experiment's photos, not the model's own")
    parser.add_argument("--output", type=str, default="", help="the HTML file; default: reports/NAME.html")
    parser.add_argument("--photos", type=Count, default=2000, help="most photos in the maps of PCA and t-SNE")
    parser.add_argument("--meteor", type=bool, default=True, help="also METEOR, which needs Java")
    about = "also log the page and its plots (PNG) to the run in MLflow"
    parser.add_argument("--log", type=bool, default=True, help=about)
    add_prediction_options(parser, "style of the captions, by data set; default: that of each photo's own data set")
    return parser


if __name__ == "__main__":
    run_command(main)
