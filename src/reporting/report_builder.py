"""Builds the report on models, on a sweep or on a comparison, and logs it to MLflow."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from src.common.errors import UserError, one_line
from src.evaluation.evaluation_set import EvaluationOptions
from src.inference.provenance import model_run_id
from src.reporting.html import Page, file_name
from src.reporting.model_data import ReportedModel, collect_models
from src.reporting.search_sections import comparison_section, read_comparison, sweep_sections
from src.reporting.sections import make_page
from src.tracking.mlflow_client import open_client
from src.tracking.run_registry import find_model


@dataclass
class Report:
    """A page, a name for its file, the id of its one run in MLflow (else empty), and whether it shows fallbacks."""

    page: Page
    name: str
    run_id: str = ""
    has_fallbacks: bool = False


def build_report(options: EvaluationOptions) -> Report:
    """The report on --model, --sweep or --comparison.

    Raises:
        UserError: there is no such model, sweep or comparison, or it has no images to predict.
    """
    if options.values.sweep:
        return sweep_report(options)
    if options.values.comparison:
        return comparison_report(options)
    return models_report([ReportedModel(name) for name in options.values.model], options)


def models_report(reported: Sequence[ReportedModel], options: EvaluationOptions) -> Report:
    """A report on models."""
    values = options.values
    models = collect_models(reported, options, values.meteor)
    run_id = models[0].model.provenance["run_id"] if len(models) == 1 else ""
    name = file_name("-".join(model.name for model in models))
    has_fallbacks = any(model.model.provenance["fallbacks"] for model in models)
    return Report(make_page(models, values.photos, values.meteor), name, run_id, has_fallbacks)


def sweep_report(options: EvaluationOptions) -> Report:
    """A report on a sweep's search, and on its best model where that is trained."""
    name, runs = options.values.sweep, Path(options.values.runs)
    sections = sweep_sections(name, runs)
    try:
        find_model(name)
    except UserError as error:
        print(f"{error}; the report holds the search alone", file=sys.stderr)
        report = Report(Page(""), "")
    else:
        report = models_report([ReportedModel(name)], options)
    report.page.title, report.page.sections = f"Report on the sweep {name}", [*sections, *report.page.sections]
    return Report(report.page, f"sweep-{name}", model_run_id(runs / f"sweep-{name}/model"), report.has_fallbacks)


def comparison_report(options: EvaluationOptions) -> Report:
    """A report on a comparison's costs and on its models side by side."""
    name, runs = options.values.comparison, Path(options.values.runs)
    comparison = read_comparison(name, runs)
    options.values.part = options.overrides.get("part", comparison.part)
    report = models_report(comparison.models, options)
    report.page.title = f"Report on the comparison {name}"
    report.page.sections.insert(0, comparison_section(comparison.rows))
    return Report(report.page, f"compare-{name}", model_run_id(runs / f"compare-{name}/model"), report.has_fallbacks)


def log_report(report: Report, path: Path) -> None:
    """Logs the page and its plots to the run in MLflow, as artifacts in `report`; prints the result or the problem."""
    if not report.run_id:
        print("--log: the report has no single run in MLflow; its plots are in the page alone", file=sys.stderr)
        return
    try:
        client = open_client()
        with tempfile.TemporaryDirectory() as folder:
            for plot in report.page.plots():
                (Path(folder) / f"{plot.name}.png").write_bytes(plot.png)
            client.log_artifacts(report.run_id, folder, "report")
        client.log_artifact(report.run_id, str(path), "report")
    except (MlflowException, UserError) as error:
        print(f"--log: the report did not reach MLflow ({one_line(error)[:200]})", file=sys.stderr)
        return
    print(f"logged to run {report.run_id}: make ui shows it under Artifacts, report")
