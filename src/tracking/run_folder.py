"""A run's folder on disk, and the identity of a run: which settings make two runs the same."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.common.errors import UserError
from src.common.files import remove_partial_files, sha256, write_text
from src.config.loader import merge_trees
from src.config.schema import Config, to_dict
from src.data.fingerprint import hash_config_data
from src.tracking.mlflow_sync import read_run_id
from src.tracking.run_lock import LOCK, hold_run
from src.tracking.run_log import LOG, read_first_tags

PLACES = ("path", "captions", "images")  # keys of a data source


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
        result = json.loads(self.result.read_text())
        if not result["run_id"] and (run_id := read_run_id(self.path)):
            result["run_id"] = run_id
            write_text(self.result, json.dumps(result, indent=1))
        return result

    def open(self, config: Config, again: bool = False) -> None:
        """Makes the folder for a config, or opens that of a run with the same config; `again` empties it first.

        Raises:
            UserError: the folder has a run with another config, or is to be emptied while another process uses it.
        """
        if again and self.path.exists():
            self.clear()
        self.check_config(config, "choose another --track.name, or give --again true to start it anew")
        if not self._identity.exists() or self._read_identity() != config_identity(config):
            write_text(self._identity, json.dumps(config_identity(config), indent=1))

    def check_config(self, config: Config, remedy: str) -> None:
        """Raises UserError, which ends in the remedy, where the folder has a run with another config."""
        if changed := self.changed(config):
            raise UserError(f"{self.path}: holds a run with another config ({', '.join(changed)}); {remedy}")

    def check_data(self, data_hash: str) -> None:
        """Raises UserError where the folder's run began on data with another hash."""
        if (earlier := read_first_tags(self.history).get("data_hash", data_hash)) != data_hash:
            hashes = f"{earlier[:8]}, now {data_hash[:8]}"
            remedy = "restore it, choose another --track.name, or give --again true to start it anew"
            raise UserError(f"{self.path}: its run began on other data (names, labels or parts: {hashes}); {remedy}")

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
        """Dotted keys in which a config differs from that of the folder's run; none where it has no run.

        Raises:
            UserError: the data lies elsewhere than that of the run, and cannot be read to compare the two.
        """
        if not self._identity.exists():
            return []
        earlier = self._read_identity()
        changed = differing_keys(earlier, config_identity(config))
        return without_moved_files(changed, earlier, config, read_first_tags(self.history))

    def _read_identity(self) -> dict[str, Any]:
        return fill_identity(json.loads(self._identity.read_text()))

    @property
    def _identity(self) -> Path:
        return self.path / "config.json"


def fill_identity(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity that was written before some setting existed, with the default of that setting."""
    return merge_trees(config_identity(Config()), identity)


def config_identity(config: Config) -> dict[str, Any]:
    """The settings that make a run the same run: all but places of files and numbers of processors."""
    tree = to_dict(config)
    for key in ("track", "folds", "seeds"):
        tree.pop(key)
    for key in ("runs", "threads", "compile", "workers", "cpus"):
        tree["train"].pop(key)
    for key in ("cache_dir", "split_dir", "workers"):
        tree["data"].pop(key)
    return tree


def without_moved_files(changed: list[str], earlier: dict[str, Any], config: Config, tags: dict[str, str]) -> list[str]:
    """Changed keys but for those of data and weights that are the same in another place, or are not in use yet.

    Args:
        changed: dotted keys in which the config differs.
        earlier: the identity that it differs from.
        config: the config.
        tags: with which a run of that identity began, with hashes of its data and weights; empty: none began.
    """
    if not tags:
        return [key for key in changed if key not in ("data.sources", "data.exclude", "model.backbone.weights")]
    is_same = {
        "data.sources": is_same_data,
        "data.exclude": is_same_data,
        "model.backbone.weights": is_same_file_of_weights,
    }
    return [key for key in changed if key not in is_same or not is_same[key](earlier, config, tags)]


def is_same_data(earlier: dict[str, Any], config: Config, tags: dict[str, str]) -> bool:
    """Whether a config's data is that of an earlier run; arguments as of without_moved_files."""
    sources = config_identity(config)["data"]["sources"]
    settings = [without_places(sources), without_places(earlier["data"]["sources"])]
    return settings[0] == settings[1] and tags.get("data_hash") == hash_config_data(config.data)


def is_same_file_of_weights(earlier: dict[str, Any], config: Config, tags: dict[str, str]) -> bool:
    """Whether a config's weights are those of an earlier run's file; arguments as of without_moved_files."""
    return bool(digest := hash_weights(config)) and tags.get("weights_hash") == digest


def without_places(sources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The settings of data sources but for where their files lie."""
    return [{key: value for key, value in source.items() if key not in PLACES} for source in sources]


def hash_weights(config: Config) -> str:
    """The SHA-256 of the backbone's weights where a config names a file, and those of model.mos.backbones; or empty."""
    names = [config.model.backbone.weights, *(network.weights for network in config.model.mos.backbones)]
    return " ".join(sha256(Path(name)) for name in names if Path(name).is_file())


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
