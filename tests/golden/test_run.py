"""A training run through the command: files of its folder, keys of its result, and the entries of its MLflow run.

Numbers of training differ between machines, so names and keys alone are stored.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from mlflow import MlflowClient

from src.tracking.run_log import read_metrics
from src.train import main
from tests.golden.golden import compare_json

EXPERIMENT = """
data:
  sources:
  - {format: samsung, path: data/challenge, name: challenge}
  - {format: flickr8k, path: data/flickr8k, name: flickr8k, split: official}
  val: 0.3
  caption_size: 64
  mos_size: 64
  tokenizer: {min_count: 1}
model:
  backbone: {name: test_resnet, weights: none}
  mos: {hidden: 8, huber: 1.0}
  decoder: {embedding: 8, hidden: 16, attention_size: 8}
train: {epochs: 2, batch_size: 16, threads: 1, self_critical: {epochs: 1}}
generate: {beam: 2, max_length: 6}
track: {name: tiny}
"""


def test_a_run() -> None:
    """Two epochs, the second one self-critical, on features of both sources."""
    Path("tiny.yaml").write_text(EXPERIMENT, encoding="utf-8")
    assert main(["--config", "tiny.yaml"]) == 0
    folder, client = Path("runs/tiny"), MlflowClient(f"sqlite:///{Path('mlflow.db').resolve()}")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    history = {name: points for name, points in read_metrics(folder / "history.jsonl").items() if is_curve(name)}
    run = client.get_run(result["run_id"])
    found = {
        "folder": files_of(folder),
        "result": sorted(result),
        "scores": sorted(result["scores"]),
        "history": sorted(history),
        "last step": int(max(points[-1][0] for points in history.values())),
        "meta": sorted(json.loads((folder / "model/meta.json").read_text(encoding="utf-8"))),
        "metrics": portable(run.data.metrics),
        "params": sorted(run.data.params),
        "tags": portable(run.data.tags),
        "artifacts": artifacts_of(client, result["run_id"]),
    }
    compare_json("run/tiny.json", found)


def is_curve(name: str) -> bool:
    """Whether Lightning logs a metric during training."""
    return name == "epoch" or name.startswith(("train/", "val/"))


def portable(names: Iterable[str]) -> list[str]:
    """Names but for those that depend on the machine and on git."""
    return sorted(name for name in names if not name.startswith(("system/", "mlflow.", "git")))


def files_of(folder: Path) -> list[str]:
    """Names of all files below a folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def artifacts_of(client: MlflowClient, run_id: str, folder: str = "") -> list[str]:
    """Names of all artifacts of a run in MLflow."""
    found: list[str] = []
    for item in client.list_artifacts(run_id, folder or None):
        found += artifacts_of(client, run_id, item.path) if item.is_dir else [item.path]
    return sorted(found)
