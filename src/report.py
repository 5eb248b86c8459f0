"""python -m src.report: one HTML file on a model, on several side by side, on a sweep or a comparison."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from src.command import Parser, make_parser
from src.errors import UserError, one_line, run_command
from src.evaluate import PARTS
from src.predict import add_model_options

if TYPE_CHECKING:
    from src.reporting.page import Page


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, makes the page, and says where it lies."""
    parser = make_options()
    options = parser.parse_args(args)
    if sum(map(bool, (options.model, options.sweep, options.comparison))) != 1:
        raise UserError("give one of --model RUN, --sweep NAME or --comparison NAME")
    page, name, run_id = make_page(parser, options, args)
    path = Path(options.output or f"reports/{name}.html")

    from src.reporting.page import write_page

    size = write_page(page, path)
    print(f"wrote {path}: {size / 1e6:.1f} MB, {len(page.pictures())} figures")
    if options.log:
        log_page(page, path, run_id)
    return 0


def make_options() -> Parser:
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
    parser.add_argument("--photos", type=int, default=2000, help="most photos on the planes of PCA and t-SNE")
    parser.add_argument("--meteor", type=bool, default=True, help="METEOR too, which needs Java")
    parser.add_argument("--log", type=bool, default=True, help="also send page and figures (PNG) to the run in MLflow")
    add_model_options(parser, "style of the captions, by data set; default: that of each photo's own data set")
    return parser


def make_page(parser: Parser, options: Namespace, args: Sequence[str] | None) -> "tuple[Page, str, str]":
    """The page, a name for its file, and the run in MLflow that it is of; empty where it is of none."""
    from src.reporting.material import gather
    from src.reporting.sections import model_page

    materials = gather(options.model, parser, args, options.meteor)
    page = model_page(materials, options.photos)
    run_id = materials[0].asked.about["run_id"] if len(materials) == 1 else ""
    return page, "-".join(m.name for m in materials)[:80], run_id


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
