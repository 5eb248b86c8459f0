"""A report's page: of models, of a sweep, of a comparison."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from src.common.errors import UserError, one_line
from src.config.cli import Overrides
from src.tracking.mlflow_sync import RUN_ID

if TYPE_CHECKING:
    from src.reporting.html import Page
    from src.reporting.model_data import ReportedModel


@dataclass
class BuiltReport:
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


def build_report(options: Namespace, overrides: Overrides) -> BuiltReport:
    """The page that the command line asks for.

    Raises:
        UserError: there is no such model, sweep or comparison, or no photos to answer.
    """
    if options.sweep:
        return sweep_report(options, overrides)
    if options.comparison:
        return comparison_report(options, overrides)
    from src.reporting.model_data import ReportedModel

    return models_report([ReportedModel(name) for name in options.model], options, overrides)


def models_report(models: "Sequence[ReportedModel]", options: Namespace, overrides: Overrides) -> BuiltReport:
    """A report on models; of a run where it is one model's."""
    from src.reporting.html import file_name
    from src.reporting.model_data import collect_models
    from src.reporting.sections import model_page

    materials = collect_models(models, options, overrides)
    run_id = materials[0].asked.about["run_id"] if len(materials) == 1 else ""
    name = file_name("-".join(one.name for one in materials))
    fallbacks = any(one.asked.about["fallbacks"] for one in materials)
    return BuiltReport(model_page(materials, options.photos, options.meteor), name, run_id, fallbacks)


def sweep_report(options: Namespace, overrides: Overrides) -> BuiltReport:
    """A sweep's search, then its best model, where it is trained out."""
    from src.reporting.html import Page
    from src.reporting.model_data import ReportedModel
    from src.reporting.search_sections import sweep_sections
    from src.tracking.run_registry import find_model

    name, runs = options.sweep, Path(options.runs)
    sections = sweep_sections(name, runs)
    try:
        find_model(name)
    except UserError as error:
        print(f"{error}; the report holds the search alone", file=sys.stderr)
        made = BuiltReport(Page(""), "")
    else:
        made = models_report([ReportedModel(name)], options, overrides)
    made.page.title, made.page.sections = f"Report on the sweep {name}", [*sections, *made.page.sections]
    return BuiltReport(made.page, f"sweep-{name}", stored_run_id(runs / f"sweep-{name}"), made.fallbacks)


def comparison_report(options: Namespace, overrides: Overrides) -> BuiltReport:
    """A comparison's table, then its models side by side."""
    from src.reporting.search_sections import comparison_section, read_comparison

    name, runs = options.comparison, Path(options.runs)
    found = read_comparison(name, runs)
    if "part" not in overrides:
        options.part = found.part
    made = models_report(found.models, options, overrides)
    made.page.title = f"Report on the comparison {name}"
    made.page.sections.insert(0, comparison_section(found.rows))
    return BuiltReport(made.page, f"compare-{name}", stored_run_id(runs / f"compare-{name}"), made.fallbacks)


def stored_run_id(folder: Path) -> str:
    """The id of a run in MLflow, from its folder; empty where none is kept."""
    file = folder / RUN_ID
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def log_page(page: "Page", path: Path, run_id: str) -> None:
    """Sends the page and its figures to a run in MLflow, as artifacts in `report`; says why where that is not so."""
    if not run_id:
        print("--log: the report is of no single run in MLflow; figures lie in the page alone", file=sys.stderr)
        return
    from mlflow.exceptions import MlflowException

    from src.tracking.mlflow_client import open_client

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
