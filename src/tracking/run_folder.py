"""A run's folder on disk, and the identity of a run: which settings make two runs the same."""

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
from src.tracking.run_lock import LOCK, hold_run
from src.tracking.run_log import LOG


@dataclass
class RunFolder:
    """A run's folder: config.json, history.jsonl, checkpoints/, model/; result.json once the run is done."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The checkpoint that training resumes from; missing before the first was saved."""
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
        """The run's log; `run_log.read_metrics` reads the curves from it."""
        return self.path / LOG

    @property
    def result(self) -> Path:
        """Scores of the finished run."""
        return self.path / "result.json"

    def finished(self) -> dict[str, Any]:
        """The content of result.json. A run id that MLflow gave only after the end is added to it."""
        result, id_file = json.loads(self.result.read_text()), self.path / RUN_ID
        if not result["run_id"] and id_file.exists():
            result["run_id"] = id_file.read_text().strip()
            write_text(self.result, json.dumps(result, indent=1))
        return result

    def open(self, config: Config, again: bool = False) -> None:
        """Makes the folder for a config, or opens that of a run with the same config; `again` empties it first.

        Raises:
            UserError: the folder has a run with another config, or is to be emptied while another process uses it.
        """
        if again and self.path.exists():
            self.clear()
        if changed := self.changed(config):
            names = ", ".join(changed)
            remedy = "choose another --track.name, or give --again true to start it anew"
            raise UserError(f"{self.path}: holds a run with another config ({names}); {remedy}")
        if not self._identity.exists():
            write_text(self._identity, json.dumps(config_identity(config), indent=1))

    def tidy(self) -> None:
        """Removes checkpoints that a kill cut short; the caller holds the run."""
        remove_partial_files(self.checkpoint.parent)

    def clear(self) -> None:
        """Removes all files of an earlier run.

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
        """Dotted keys in which a config differs from that of the folder's run; none where it has no run."""
        if not self._identity.exists():
            return []
        return differing_keys(fill_identity(json.loads(self._identity.read_text())), config_identity(config))

    @property
    def _identity(self) -> Path:
        return self.path / "config.json"


def fill_identity(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity that was written before some setting existed, with the default of that setting."""
    return merge_trees(config_identity(Config()), identity)


def config_identity(config: Config) -> dict[str, Any]:
    """The settings that make a run the same run: all but places of files and numbers of processors."""
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
    """Raises UserError, with the place `where` of the name, if a run or a sweep has the reserved name best."""
    if name == "best":
        raise UserError(f"{where}: best is what the run with the highest score is called; choose another name")


def run_name(config: Config) -> str:
    """The run's name: as given, or made from its config, so that the same command finds the same run again."""
    digest = hashlib.sha256(json.dumps(config_identity(config), sort_keys=True).encode()).hexdigest()[:8]
    return config.track.name or f"run-{digest}"
