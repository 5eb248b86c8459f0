"""A comparison of models: runs each variant in its own process, and writes one table of their costs and scores."""

import json
import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from threading import Thread

from src.common.errors import UserError, one_line
from src.common.files import write_text
from src.config.schema import Config, TrackConfig, to_dict
from src.models.backbones.base import resolve_backbone
from src.tracking.abandoned_runs import end_when_gone
from src.tracking.mlflow_tracker import Tracker
from src.tracking.run_registry import find_model
from src.tuning.comparison_config import ComparisonPlan
from src.tuning.variant import VariantTask, fill_variant_cache, run_variant
from src.tuning.variant_table import VariantRow, csv_table, markdown_table, row_metrics


def make_tasks(plan: ComparisonPlan, folder: Path) -> list[VariantTask]:
    """One task a variant; its row is stored in `folder`."""
    part, photos = plan.comparison.part, plan.comparison.photos
    return [
        VariantTask(variant.name, plan.configs[variant.name], variant.model, part, photos, folder)
        for variant in plan.comparison.variants
    ]


def check_runs(tasks: Sequence[VariantTask], path: Path) -> None:
    """Raises UserError where a variant's run folder holds a run of another config, or its model does not exist."""
    for task in tasks:
        if task.model:
            find_model(task.model)
        if not task.model and (changed := task.run.changed(resolve_backbone(task.config))):
            where = f"{task.run.path} holds a run with another config ({', '.join(changed)})"
            raise UserError(f"{path}: variants: {task.name}: {where}; remove it, or set another track.name")


def run_comparison(plan: ComparisonPlan, tasks: Sequence[VariantTask], folder: Path, output: str) -> list[VariantRow]:
    """Runs the variants whose rows are missing, one after the other, and writes the table after each."""
    settings = {"comparison": asdict(plan.comparison), **to_dict(plan.base)}
    track = TrackConfig(plan.base.track.experiment, plan.name)
    rows = [task.row() or VariantRow(task.name) for task in tasks]
    ready: set[str] = set()
    with Tracker.start(track, folder, settings, {"kind": "comparison"}) as tracker:
        for i, task in enumerate(tasks):
            if rows[i].state == "waiting":
                task.config.track.parent = tracker.run_id
                rows[i] = run_task(task, ready)
                tracker.log_metrics(row_metrics(rows[i]))
            write_tables(rows, tracker, output)
        tracker.set_tags({"failed": ", ".join(row.name for row in rows if row.state == "failed")})
    return rows


def run_task(task: VariantTask, ready: set[str]) -> VariantRow:
    """Runs a variant. Returns its row; `ready` collects the features that the cache holds already."""
    print(f"{task.name}: {'evaluating ' + task.model if task.model else 'training ' + task.run.path.name}", flush=True)
    reason, features = "", feature_key(task.config)
    if features not in ready and not task.model and features:
        reason = run_in_process(fill_variant_cache, task)
        ready |= set() if reason else {features}
    reason = reason or run_in_process(run_variant, task)
    row = task.row()
    if row and not reason:
        return row
    if not task.model and task.run.path.is_dir():
        end_when_gone(task.run.path, "FAILED")
    print(f"{task.name} failed: {reason}", flush=True)
    return VariantRow(task.name, "failed", reason=reason)


def run_in_process(work: Callable[[VariantTask], None], task: VariantTask) -> str:
    """Does a task's work in a new process, so that its peak memory is its own. Returns why it failed; empty: done."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
        try:
            pool.submit(work, task).result()
        except UserError as error:
            return str(error)
        except BrokenProcessPool:
            return "its process died; the system kills a process where memory runs out"
        except (Exception, SystemExit) as error:  # the other variants go on; Lightning ends by SystemExit on SIGTERM
            traceback.print_exception(error)
            return f"{type(error).__name__}: {one_line(error)[:300]}"
    return ""


def _end_with_parent() -> None:
    """Ends this process with its parent, or a killed comparison's variant would train on and hold its run."""

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    Thread(target=wait, daemon=True).start()


def feature_key(config: Config) -> str:
    """The settings that decide which features a config takes from the cache; empty: none."""
    if not config.data.cache or not config.model.backbone.cacheable:
        return ""
    heads = [config.model.mos.enabled, config.model.decoder.enabled]
    return json.dumps([asdict(config.data), asdict(config.model.backbone), heads])


def write_tables(rows: Sequence[VariantRow], tracker: Tracker, output: str) -> None:
    """Writes the table into the comparison's folder, to MLflow, and to the path `output`."""
    texts = {".md": markdown_table(rows), ".csv": csv_table(rows)}
    for ending, text in texts.items():
        tracker.log_text(text, f"table{ending}")
        if output:
            write_text(Path(output).with_suffix(ending), text)
