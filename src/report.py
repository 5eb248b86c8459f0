"""python -m src.report: one HTML file on a model, on several side by side, on a sweep or a comparison."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from src.command import Parser, make_parser
from src.config import Count
from src.data.split import ORDER
from src.errors import FALLBACK, UserError, one_line, run_command
from src.files import check_place
from src.outbox import RUN_ID
from src.predict import add_model_options

if TYPE_CHECKING:
    from src.reporting.material import Wanted
    from src.reporting.page import Page


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, makes the page, and says where it lies. 3: some photos could not be answered."""
    parser = make_options()
    options = parser.parse_args(args)
    if sum(map(bool, (options.model, options.sweep, options.comparison))) != 1:
        raise UserError("give one of --model RUN, --sweep NAME or --comparison NAME")
    if options.output:
        check_place(Path(options.output))
    made = make_page(parser, options, args)
    path = Path(options.output or f"reports/{made.name}.html")

    from src.reporting.page import write_page

    size = write_page(made.page, path)
    print(f"wrote {path}: {size / 1e6:.1f} MB, {len(made.page.pictures())} figures")
    if options.log:
        log_page(made.page, path, made.run_id)
    return FALLBACK if made.fallbacks else 0


def make_options() -> Parser:
    """The command's options."""
    parser = make_parser("report", "One HTML file that needs nothing else: scores, plots, photos.", config=False)
    about = "model folder, run name, run id, or best; several are shown side by side"
    parser.add_argument("--model", type=str, nargs="+", default=[], help=about)
    parser.add_argument("--sweep", type=str, default="", help="a sweep's name: its search, and its best model")
    parser.add_argument("--comparison", type=str, default="", help="a comparison's name: its table, and its models")
    parser.add_argument("--runs", type=str, default="runs", help="folder of run folders")
    parser.add_argument("--part", choices=ORDER, default="val", help="which photos of the config's split")
    parser.add_argument("--config", type=str, default="", help="answer this experiment's photos, not the model's own")
    parser.add_argument("--output", type=str, default="", help="the HTML file; default: reports/NAME.html")
    parser.add_argument("--photos", type=Count, default=2000, help="most photos on the planes of PCA and t-SNE")
    parser.add_argument("--meteor", type=bool, default=True, help="METEOR too, which needs Java")
    parser.add_argument("--log", type=bool, default=True, help="also send page and figures (PNG) to the run in MLflow")
    add_model_options(parser, "style of the captions, by data set; default: that of each photo's own data set")
    return parser


@dataclass
class Made:
    """A page.

    Attributes:
        page: the page.
        name: for its file.
        run_id: of the run in MLflow that it is of; empty where it is of none.
        fallbacks: whether it shows answers that are none of a model's.
    """

    page: "Page"
    name: str
    run_id: str = ""
    fallbacks: bool = False


def make_page(parser: Parser, options: Namespace, args: Sequence[str] | None) -> Made:
    """The page that the command line asks for.

    Raises:
        UserError: there is no such model, sweep or comparison, or no photos to answer.
    """
    if options.sweep:
        return of_sweep(parser, options, args)
    if options.comparison:
        return of_comparison(parser, options, args)
    from src.reporting.material import Wanted

    return of_models([Wanted(name) for name in options.model], parser, options, args)


def of_models(models: "Sequence[Wanted]", parser: Parser, options: Namespace, args: Sequence[str] | None) -> Made:
    """A report on models; of a run where it is one model's."""
    from src.reporting.material import gather
    from src.reporting.page import file_name
    from src.reporting.sections import model_page

    materials = gather(models, parser, args, options.meteor)
    run_id = materials[0].asked.about["run_id"] if len(materials) == 1 else ""
    name = file_name("-".join(one.name for one in materials))
    fallbacks = any(one.asked.about["fallbacks"] for one in materials)
    return Made(model_page(materials, options.photos, options.meteor), name, run_id, fallbacks)


def of_sweep(parser: Parser, options: Namespace, args: Sequence[str] | None) -> Made:
    """A sweep's search, then its best model, where it is trained out."""
    from src.reporting.material import Wanted
    from src.reporting.page import Page
    from src.reporting.searches import sweep_sections
    from src.runs import find_model

    name, runs = options.sweep, Path(options.runs)
    sections = sweep_sections(name, runs)
    try:
        find_model(name)
    except UserError as error:
        print(f"{error}; the report holds the search alone", file=sys.stderr)
        made = Made(Page(""), "")
    else:
        made = of_models([Wanted(name)], parser, options, args)
    made.page.title, made.page.sections = f"Report on the sweep {name}", [*sections, *made.page.sections]
    return Made(made.page, f"sweep-{name}", kept_id(runs / f"sweep-{name}"), made.fallbacks)


def of_comparison(parser: Parser, options: Namespace, args: Sequence[str] | None) -> Made:
    """A comparison's table, then its models side by side."""
    from src.reporting.searches import comparison_section, read_comparison

    name, runs = options.comparison, Path(options.runs)
    found = read_comparison(name, runs)
    parser.set_defaults(part=found.part)
    made = of_models(found.models, parser, options, args)
    made.page.title = f"Report on the comparison {name}"
    made.page.sections.insert(0, comparison_section(found.rows))
    return Made(made.page, f"compare-{name}", kept_id(runs / f"compare-{name}"), made.fallbacks)


def kept_id(folder: Path) -> str:
    """The id of a run in MLflow, from its folder; empty where none is kept."""
    file = folder / RUN_ID
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def log_page(page: "Page", path: Path, run_id: str) -> None:
    """Sends the page and its figures to a run in MLflow, as artifacts in `report`; says why where that is not so."""
    if not run_id:
        print("--log: the report is of no single run in MLflow; figures lie in the page alone", file=sys.stderr)
        return
    from mlflow.exceptions import MlflowException

    from src.runs import open_client

    try:
        client = open_client()
        with tempfile.TemporaryDirectory() as folder:
            for one in page.pictures():
                (Path(folder) / f"{one.name}.png").write_bytes(one.png)
            client.log_artifacts(run_id, folder, "report")
        client.log_artifact(run_id, str(path), "report")
    except (MlflowException, UserError) as error:
        print(f"--log: the report did not reach MLflow ({one_line(error)[:200]})", file=sys.stderr)
        return
    print(f"logged to run {run_id}: make ui shows it under Artifacts, report")


if __name__ == "__main__":
    run_command(main)
