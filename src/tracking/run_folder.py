"""A run's folder on disk, and what makes two runs the same."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.common.errors import UserError
from src.common.files import remove_partial_files, write_text
from src.config.loader import merge_trees
from src.config.schema import Config, to_dict
from src.tracking.mlflow_sync import RUN_ID
from src.tracking.mlflow_tracker import LOCK, hold_run


@dataclass
class RunFolder:
    """A run's place on disk: config.json, checkpoints/, model/, result.json once it is done."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """Where training goes on from; there once the first checkpoint was saved."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best selected score."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.path / "model"

    @property
    def history(self) -> Path:
        """What was logged, one JSON line a step."""
        return self.path / "history.jsonl"

    @property
    def result(self) -> Path:
        """Scores of the finished run."""
        return self.path / "result.json"

    def finished(self) -> dict[str, Any]:
        """What result.json holds. The run's id in MLflow is filled in there once MLflow has heard of the run."""
        result, known = json.loads(self.result.read_text()), self.path / RUN_ID
        if not result["run_id"] and known.exists():
            result["run_id"] = known.read_text().strip()
            write_text(self.result, json.dumps(result, indent=1))
        return result

    def open(self, config: Config, again: bool = False) -> None:
        """Makes the folder for a config, or takes up what is there of the same config.

        Raises:
            UserError: the folder belongs to a run with another config, or is to be thrown away and in use.
        """
        if again and self.path.exists():
            self.clear()
        kept = self.path / "config.json"
        if changed := self.changed(config):
            names = ", ".join(changed)
            remedy = "choose another --track.name, or give --again true to start it anew"
            raise UserError(f"{self.path}: holds a run with another config ({names}); {remedy}")
        if not kept.exists():
            write_text(kept, json.dumps(config_identity(config), indent=1))

    def tidy(self) -> None:
        """Removes checkpoints that a kill left half written; the caller holds the run."""
        remove_partial_files(self.checkpoint.parent)

    def clear(self) -> None:
        """Throws away what an earlier run left.

        Raises:
            UserError: another process works on the run.
        """
        with hold_run(self.path):
            for path in self.path.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != LOCK:  # by which processes that want the folder meet
                    path.unlink()

    def changed(self, config: Config) -> list[str]:
        """Dotted keys in which a config differs from that of the run that is here; none where there is no run."""
        kept = self.path / "config.json"
        return (
            differing_keys(fill_identity(json.loads(kept.read_text())), config_identity(config))
            if kept.exists()
            else []
        )


def fill_identity(kept: dict[str, Any]) -> dict[str, Any]:
    """An identity that was written before some setting was there, with the default of that setting."""
    return merge_trees(config_identity(Config()), kept)


def config_identity(config: Config) -> dict[str, Any]:
    """What makes a run the same run: all of its config but where things lie and on how many processors it runs."""
    tree = to_dict(config)
    tree.pop("track")
    for key in ("runs", "threads", "compile", "workers", "cpus"):
        tree["train"].pop(key)
    for key in ("cache_dir", "split_dir", "workers"):
        tree["data"].pop(key)
    return tree


def differing_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ."""
    names: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            names += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            names.append(prefix + key)
    return names


def check_run_name(name: str, where: str) -> None:
    """Raises UserError, which says `where` the name stands, if a run or a sweep is called what stands for another."""
    if name == "best":
        raise UserError(f"{where}: best is what the run with the highest score is called; choose another name")


def run_name(config: Config) -> str:
    """The run's name: as given, or one that its config decides, so that the same command finds its own run again."""
    digest = hashlib.sha256(json.dumps(config_identity(config), sort_keys=True).encode()).hexdigest()[:8]
    return config.track.name or f"run-{digest}"
