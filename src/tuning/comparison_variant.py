"""What runs in a variant's own process, so that its peak memory is its own: training, then evaluation."""

import json
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from src.common.errors import UserError, one_line
from src.common.files import write_text
from src.config.schema import Config
from src.data.leaky_split import LEAKING, is_leaky
from src.tracking.run_folder import RunFolder, config_identity, fill_identity

if TYPE_CHECKING:
    from src.data.sample import Sample
    from src.models.model_folder import LoadedModel

MEGA = 1e6


@dataclass
class VariantRow:
    """A variant in the table.

    Attributes:
        name: the variant's.
        state: waiting, trained, evaluated or failed.
        split: official, random or leaking_pairs.
        reason: why it failed.
        numbers: name -> parameters, costs; those that are not known are left out.
        scores: name -> {value, low, high}; low and high are None where there is no interval.
    """

    name: str
    state: str = "waiting"
    split: str = ""
    reason: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    scores: dict[str, dict[str, float | None]] = field(default_factory=dict)


@dataclass
class VariantTask:
    """A variant to work out.

    Attributes:
        name: the variant's.
        config: its config.
        model: what to evaluate; empty: train.
        part: the photos to score.
        photos: most photos to measure the time on.
        folder: where its row is kept.
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
    def asked(self) -> dict[str, Any]:
        """What a row on disk must be an answer to, to count."""
        own = {"model": self.model, "part": self.part, "photos": self.photos}
        return json.loads(json.dumps({**own, "config": config_identity(self.config)}))

    def row(self) -> VariantRow | None:
        """The finished row, where there is one."""
        file = self.folder / f"{self.name}.json"
        if not file.exists():
            return None
        kept = json.loads(file.read_text(encoding="utf-8"))
        before = {**kept["asked"], "config": fill_identity(kept["asked"]["config"])}
        return VariantRow(**kept["row"]) if before == self.asked else None


def run_in_process(work: Callable[[VariantTask], None], task: VariantTask) -> str:
    """Does a task's work in a new process. Returns why it failed, empty where it did not."""
    failure = task.folder / f"{task.name}.failed.txt"
    failure.unlink(missing_ok=True)
    process = multiprocessing.get_context("spawn").Process(target=_guarded, args=(work, task, failure))
    process.start()
    process.join()
    if not process.exitcode:
        return ""
    if failure.exists():
        return failure.read_text(encoding="utf-8")
    code = process.exitcode
    return f"its process was ended by {signal.Signals(-code).name}" if code < 0 else f"its process ended with {code}"


def _guarded(work: Callable[[VariantTask], None], task: VariantTask, failure: Path) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(task)
    except UserError as error:
        write_text(failure, str(error))
        sys.exit(2)
    except Exception as error:
        traceback.print_exc()
        write_text(failure, f"{type(error).__name__}: {one_line(error)[:300]}")
        sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # or a killed comparison's variant would train on, and keep the next one from its run


def fill_variant_cache(task: VariantTask) -> None:
    """Computes the features that the variant trains on: their time and memory are no cost of its own."""
    from src.training.datamodule import build_feature_store

    build_feature_store(task.config)


def run_variant(task: VariantTask) -> None:
    """Trains where asked to, evaluates, and keeps the row."""
    from src.data.sources import load_part
    from src.inference.feature_extractor import reuse_memory
    from src.inference.model_loading import load_model

    reuse_memory()
    numbers = {} if task.model else train_variant(task)
    loaded, folder = load_model(task.model or str(task.run.model))
    samples = load_part(task.config, task.part)
    row = VariantRow(task.name, "evaluated" if task.model else "trained", split_label(task.config, loaded.config))
    row.numbers = count_parameters(loaded) | training_costs(folder.parent / "result.json")
    row.scores = variant_scores(loaded, samples, task)
    row.numbers["predict_ms"] = 1000 * seconds_per_photo(loaded, samples, task)
    row.numbers |= numbers or peak_memory()
    kept = {"asked": task.asked, "row": asdict(row)}
    write_text(task.folder / f"{task.name}.json", json.dumps(kept, indent=1, allow_nan=False))


def train_variant(task: VariantTask) -> dict[str, float]:
    """Trains, or goes on with it. Returns the memory it took, as kept where an earlier process ended it."""
    from src.training.run import train as train_run

    kept = task.run.path / "memory.json"
    done = task.run.result.exists()
    train_run(task.config)
    if not done:
        write_text(kept, json.dumps(peak_memory()))
    return json.loads(kept.read_text()) if kept.exists() else {}


def peak_memory() -> dict[str, float]:
    """Peak memory of this process in MB, on the GPU too where there is one."""
    import torch

    # Not getrusage, whose peak a new process takes over from the one that started it.
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    found = {"memory_mb": int(peak[1]) * 1024 / MEGA} if peak else {}
    if torch.cuda.is_available():
        found["gpu_memory_mb"] = torch.cuda.max_memory_allocated() / MEGA
    return found


def count_parameters(loaded: "LoadedModel") -> dict[str, float]:
    """How many parameters the model has, and how many of them training moves."""
    every = list(loaded.model.parameters())
    trained = sum(one.numel() for one in every if one.requires_grad)
    return {"parameters_trained": trained, "parameters": sum(one.numel() for one in every)}


def training_costs(result: Path) -> dict[str, float]:
    """Minutes of training, evaluations left out, and captions a second, from a run's result where it is at hand."""
    if not result.exists():
        return {}
    kept = json.loads(result.read_text(encoding="utf-8"))
    found = {"train_minutes": kept["seconds"] / 60}
    if kept.get("captions") and kept["seconds"]:
        found["captions_per_second"] = kept["captions"] / kept["seconds"]
    return found


def split_label(config: Config, trained: Config) -> str:
    """How the photos were split; leaking where the model's own training or the evaluation is."""
    if is_leaky(config.data) or is_leaky(trained.data):
        return LEAKING
    return "+".join(sorted({source.split for source in config.data.sources}))


def variant_scores(
    loaded: "LoadedModel", samples: "list[Sample]", task: VariantTask
) -> dict[str, dict[str, float | None]]:
    """Every score with its interval."""
    from src.evaluation.score_table import ALL, score_by_source
    from src.inference.fallbacks import ensemble_fallback, fill_missing
    from src.inference.predict_options import PredictOptions
    from src.inference.predictor import Predictor

    cached = loaded.config.data.cache and loaded.config.model.backbone.frozen
    settings = PredictOptions(task.config.generate, cache=cached, labelled=True)
    answers, failed = Predictor.of_model(loaded).predict(samples, settings)
    fill_missing(answers, failed, ensemble_fallback([loaded], settings), settings)
    return {name: asdict(score) for name, score in score_by_source(answers)[ALL].scores.items()}


def seconds_per_photo(loaded: "LoadedModel", samples: "list[Sample]", task: VariantTask) -> float:
    """Time to answer a photo, from its file to mos and caption, in batches; the first photos only warm up."""
    from src.inference.predict_options import PredictOptions
    from src.inference.predictor import Predictor

    some = samples[:: -(-len(samples) // task.photos)]
    settings = PredictOptions(task.config.generate, progress=False)
    predictor = Predictor.of_model(loaded)
    predictor.predict(some[:4], settings)
    began = time.perf_counter()
    predictor.predict(some, settings)
    return (time.perf_counter() - began) / len(some)
