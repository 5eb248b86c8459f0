"""One variant of a comparison: training, then evaluation, with its costs. Runs in the variant's own process.

Held by tests/tuning/test_model_comparison.py.
"""

import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from src.common.files import write_text
from src.config.schema import Config
from src.data.leaky_split import LEAKING, is_leaky
from src.data.sample import Sample
from src.data.sources import load_part
from src.evaluation.score_table import ALL, score_by_source
from src.inference.fallbacks import ensemble_fallback, fill_missing
from src.inference.feature_extractor import reuse_memory
from src.inference.model_loading import load_model
from src.inference.predict_options import PredictOptions
from src.inference.predictor import Predictor
from src.models.model_folder import LoadedModel
from src.tracking.run_folder import RunFolder, config_identity, fill_identity
from src.training.datamodule import build_feature_store
from src.training.run import train
from src.tuning.variant_table import VariantRow

MEGA = 1e6


@dataclass
class VariantTask:
    """A variant to train and evaluate.

    Attributes:
        name: the variant's.
        config: its config.
        model: a trained model to evaluate; empty: train one.
        part: of the data, to score.
        photos: at most so many photos measure the time per photo.
        folder: of its row.
    """

    name: str
    config: Config
    model: str
    part: str
    photos: int
    folder: Path

    @property
    def run(self) -> RunFolder:
        """The folder of its run."""
        return RunFolder(Path(self.config.train.runs) / self.config.track.name)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that a row on disk must have been made with, to count."""
        identity = {"model": self.model, "part": self.part, "photos": self.photos}
        return json.loads(json.dumps({**identity, "config": config_identity(self.config)}))

    def row(self) -> VariantRow | None:
        """The row on disk; None: there is none, or one of other settings."""
        file = self.folder / f"{self.name}.json"
        if not file.exists():
            return None
        record = json.loads(file.read_text(encoding="utf-8"))
        identity = {**record["identity"], "config": fill_identity(record["identity"]["config"])}
        return VariantRow(**record["row"]) if identity == self.identity else None


def fill_variant_cache(task: VariantTask) -> None:
    """Fills the feature cache for the variant beforehand: its time and memory are not the variant's."""
    build_feature_store(task.config)


def run_variant(task: VariantTask) -> None:
    """Trains the variant, unless it names a model; evaluates it and writes its row."""
    reuse_memory()
    numbers = {} if task.model else train_variant(task)
    loaded, folder = load_model(task.model or str(task.run.model))
    samples = load_part(task.config, task.part)
    row = VariantRow(task.name, "evaluated" if task.model else "trained", split_label(task.config, loaded.config))
    row.numbers = count_parameters(loaded) | training_costs(folder.parent / "result.json")
    row.scores = variant_scores(loaded, samples, task)
    row.numbers["predict_ms"] = 1000 * seconds_per_photo(loaded, samples, task)
    row.numbers |= numbers or peak_memory()
    record = {"identity": task.identity, "row": asdict(row)}
    write_text(task.folder / f"{task.name}.json", json.dumps(record, indent=1, allow_nan=False))


def train_variant(task: VariantTask) -> dict[str, float]:
    """Trains or resumes. Returns the peak memory of the process that ended the training, now or earlier."""
    file = task.run.path / "memory.json"
    done = task.run.result.exists()
    train(task.config)
    if not done:
        write_text(file, json.dumps(peak_memory()))
    return json.loads(file.read_text()) if file.exists() else {}


def peak_memory() -> dict[str, float]:
    """Peak memory of this process in MB, on the GPU too where there is one."""
    # Not getrusage, whose peak a new process takes over from the one that started it.
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    memory = {"memory_mb": int(peak[1]) * 1024 / MEGA} if peak else {}
    if torch.cuda.is_available():
        memory["gpu_memory_mb"] = torch.cuda.max_memory_allocated() / MEGA
    return memory


def count_parameters(loaded: LoadedModel) -> dict[str, float]:
    """Numbers of parameters of the model, trained ones and all."""
    weights = list(loaded.model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    return {"parameters_trained": trained, "parameters": sum(weight.numel() for weight in weights)}


def training_costs(result: Path) -> dict[str, float]:
    """Minutes of training without evaluations, and captions per second, from a run's result.json; empty without it."""
    if not result.exists():
        return {}
    run = json.loads(result.read_text(encoding="utf-8"))
    costs = {"train_minutes": run["seconds"] / 60}
    if run.get("captions") and run["seconds"]:
        costs["captions_per_second"] = run["captions"] / run["seconds"]
    return costs


def split_label(config: Config, trained: Config) -> str:
    """The split of the photos; leaking_pairs where that of the model's training or of the evaluation leaks."""
    if is_leaky(config.data) or is_leaky(trained.data):
        return LEAKING
    return "+".join(sorted({source.split for source in config.data.sources}))


def variant_scores(loaded: LoadedModel, samples: list[Sample], task: VariantTask) -> dict[str, dict[str, float | None]]:
    """Every score with its interval."""
    cached = loaded.config.data.cache and loaded.config.model.backbone.cacheable
    settings = PredictOptions(task.config.generate, cache=cached, labelled=True)
    predictions, failed = Predictor.of_model(loaded).predict(samples, settings)
    fill_missing(predictions, failed, ensemble_fallback([loaded], settings), settings)
    return {name: asdict(score) for name, score in score_by_source(predictions)[ALL].scores.items()}


def seconds_per_photo(loaded: LoadedModel, samples: list[Sample], task: VariantTask) -> float:
    """Time to predict a photo, from its file to mos and caption, in batches; the first photos only warm up."""
    timed = samples[:: -(-len(samples) // task.photos)]
    settings = PredictOptions(task.config.generate, progress=False)
    predictor = Predictor.of_model(loaded)
    predictor.predict(timed[:4], settings)
    began = time.perf_counter()
    predictor.predict(timed, settings)
    return (time.perf_counter() - began) / len(timed)
