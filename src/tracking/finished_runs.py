"""Finished runs by their folders in runs/, which are the truth about their models; MLflow is the second place.

Held by tests/tracking/test_run_registry.py.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from src.common.errors import UserError
from src.data.leaky_split import LEAKING
from src.tracking.mlflow_sync import RUN_ID, read_run_id

RUNS = Path("runs")
MODEL_FILES = ("model.safetensors", "config.yaml")
GROUP, GROUP_FORMAT = "group.json", 1


@dataclass(frozen=True)
class FinishedRun:
    """A finished run with a model.

    Attributes:
        folder: the run's.
        selected: selected score of its model; NaN: none.
        leaky: its training data held its validation photos, so that its score does not count.
    """

    folder: Path
    selected: float
    leaky: bool

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.folder / "model"


@dataclass(frozen=True)
class RunGroup:
    """A group of runs.

    Attributes:
        folder: the group's.
        name: the group's.
        folds: number of folds; 0: none, all runs share the experiment's own split.
        seeds: number of seeds.
        members: names of its runs, by fold and then seed.
        refit: name of the run on all images; empty: none.
    """

    folder: Path
    name: str
    folds: int
    seeds: int
    members: list[str]
    refit: str = ""


def finished_runs(runs: Path = RUNS) -> list[FinishedRun]:
    """The finished runs with a model in a folder of run folders, by name."""
    folders = sorted(path.parent for path in runs.glob("*/result.json"))
    return [read_finished_run(folder) for folder in folders if is_model_folder(folder / "model")]


def read_finished_run(folder: Path) -> FinishedRun:
    """A finished run from its folder; without a score where its result cannot be read."""
    selected = read_json(folder / "result.json").get("selected")
    sources = read_json(folder / "config.json").get("data", {}).get("sources", [])
    leaky = any(source.get("split") == LEAKING for source in sources)
    return FinishedRun(folder, math.nan if selected is None else float(selected), leaky)


def read_json(path: Path) -> dict:
    """A JSON file's mapping; empty where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def find_model_here(name: str, runs: Path = RUNS) -> Path | None:
    """The model folder of a run in a folder of run folders, None where no run is called so.

    Args:
        name: `best`, which is the finished run with the highest selected score; a sweep, which stands for its best
            configuration, trained to the end; a run, by the name of its folder; or MLflow's id of a run.
        runs: folder of run folders.
    """
    if name == "best":
        run = best_finished_run(run for run in finished_runs(runs) if not run.leaky)
        return run.model if run else None
    if Path(name).name != name:
        return None
    if (runs / f"sweep-{name}").is_dir():
        trained = [run for run in finished_runs(runs) if is_best_of_sweep(run, name)]
        if run := best_finished_run(trained):
            return run.model
    folders = [runs / name, *folders_of_id(name, runs)]
    return next((folder / "model" for folder in folders if is_model_folder(folder / "model")), None)


def folders_of_id(run_id: str, runs: Path) -> list[Path]:
    """The folders of the run that MLflow knows by an id, which a copied run shares with its original."""
    return [file.parent for file in runs.glob(f"*/{RUN_ID}") if read_run_id(file.parent) == run_id]


def find_group(name: str, runs: Path = RUNS) -> RunGroup | None:
    """The group of a name, folder or MLflow id, or of the folds of a sweep's best configuration; None: there is none.

    Raises:
        UserError: its file is damaged or of a later format.
    """
    folders = [Path(name)]
    if Path(name).name == name:
        folders += [runs / name, *([runs / f"{name}-best"] if (runs / f"sweep-{name}").is_dir() else [])]
        folders += folders_of_id(name, runs)
    return next((read_group(folder) for folder in folders if (folder / GROUP).is_file()), None)


def read_group(folder: Path) -> RunGroup:
    """The group of a folder; raises as find_group."""
    tree = read_json(folder / GROUP)
    if tree.pop("format", None) != GROUP_FORMAT or tree.keys() != {f.name for f in fields(RunGroup)} - {"folder"}:
        remedy = "give the group's training command again"
        raise UserError(f"{folder / GROUP}: is damaged, or no group of format {GROUP_FORMAT}; {remedy}")
    return RunGroup(folder, **tree)


def is_best_of_sweep(run: FinishedRun, sweep: str) -> bool:
    """Whether a run is the best configuration of a sweep, trained to the end, or a fold of it."""
    name, _, fold = run.folder.name.partition("-best")
    return name == sweep and (not fold or fold.startswith("-fold"))


def best_finished_run(runs: Iterable[FinishedRun]) -> FinishedRun | None:
    """The run with the highest selected score; None where no run has one."""
    scored = [run for run in runs if math.isfinite(run.selected)]
    return max(scored, key=lambda run: run.selected, default=None)


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a model."""
    return all((folder / file).is_file() for file in MODEL_FILES)
