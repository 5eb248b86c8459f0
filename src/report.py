"""python -m src.report: one HTML file on a model, on several side by side, on a sweep or a comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.common.errors import EXIT_FALLBACKS, UserError, run_command
from src.common.files import check_output_file
from src.config.cli import add_prediction_options, parse_with_overrides
from src.config.loader import CommandParser, make_parser
from src.config.schema import Count
from src.data.split import PARTS
from src.reporting.report_builder import build_report, log_page

if TYPE_CHECKING:
    pass


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, makes the page, and says where it lies. 3: some photos could not be answered."""
    options, overrides = parse_with_overrides(make_options(), args)
    if sum(map(bool, (options.model, options.sweep, options.comparison))) != 1:
        raise UserError("give one of --model RUN, --sweep NAME or --comparison NAME")
    if options.output:
        check_output_file(Path(options.output))
    made = build_report(options, overrides)
    path = Path(options.output or f"reports/{made.name}.html")

    from src.reporting.html import write_page

    size = write_page(made.page, path)
    print(f"wrote {path}: {size / 1e6:.1f} MB, {len(made.page.pictures())} figures")
    if options.log:
        log_page(made.page, path, made.run_id)
    return EXIT_FALLBACKS if made.fallbacks else 0


def make_options() -> CommandParser:
    """The command's options."""
    parser = make_parser("report", "One HTML file that needs nothing else: scores, plots, photos.", config=False)
    about = "model folder, run name, run id, or best; several are shown side by side"
    parser.add_argument("--model", type=str, nargs="+", default=[], help=about)
    parser.add_argument("--sweep", type=str, default="", help="a sweep's name: its search, and its best model")
    parser.add_argument("--comparison", type=str, default="", help="a comparison's name: its table, and its models")
    parser.add_argument("--runs", type=str, default="runs", help="folder of run folders")
    parser.add_argument("--part", choices=PARTS, default="val", help="which photos of the config's split")
    parser.add_argument("--config", type=str, default="", help="answer this experiment's photos, not the model's own")
    parser.add_argument("--output", type=str, default="", help="the HTML file; default: reports/NAME.html")
    parser.add_argument("--photos", type=Count, default=2000, help="most photos on the planes of PCA and t-SNE")
    parser.add_argument("--meteor", type=bool, default=True, help="METEOR too, which needs Java")
    parser.add_argument("--log", type=bool, default=True, help="also send page and figures (PNG) to the run in MLflow")
    add_prediction_options(parser, "style of the captions, by data set; default: that of each photo's own data set")
    return parser


if __name__ == "__main__":
    run_command(main)
