"""Prediction in several processes, here or on a cluster, by Ray Data, in parts that are stored until all are done.

A part is a stretch of images as long as some batches, so that an image is in the batch that one process would put it
in, and its prediction is the same. Parts come back in any order; each is a file beside the submission, so that the same
command, given again, predicts only what is missing.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.common.errors import UserError
from src.common.files import sha256, write_text
from src.common.progress import progress_bar
from src.common.ray_cluster import enter_working_folder, ray_session
from src.data.image_hashes import file_stamp, hash_image, map_in_threads
from src.data.sample import Sample
from src.inference.predict_options import PredictOptions
from src.inference.predictions import Predictions
from src.inference.predictor import Predictor
from src.tracking.mlflow_client import tracking_uri

BATCHES = 16  # of a part: the most that each worker loses when all goes down
PARTS = 2000  # about as many as Ray Data carries well; of a larger table each part is longer


@dataclass
class PredictionPart:
    """A stretch of images, and the file of their predictions once they are done."""

    samples: Sequence[Sample]
    file: Path


@dataclass
class DistributedResult:
    """Predictions for all images, in their order.

    Attributes:
        predictions: as `Predictor.predict` gives them.
        failed: likewise: why images could not be read, by name.
        hashes: SHA-256 of each image, None where it cannot be read.
        stored: images that an earlier command, cut short, had predicted.
    """

    predictions: Predictions
    failed: dict[str, str] = field(default_factory=dict)
    hashes: list[str | None] = field(default_factory=list)
    stored: int = 0


def predict_distributed(
    model: Path, samples: Sequence[Sample], options: PredictOptions, workers: int, output: Path
) -> DistributedResult:
    """Predicts images in `workers` processes. The caller removes the parts once the submission is written.

    Args:
        model: the model's folder, where every machine can read it; so must be the images.
        samples: the images.
        options: how images are predicted.
        workers: processes, each with a GPU where Ray has such, or its share of the CPUs.
        output: the submission.

    Raises:
        UserError: too few CPUs or GPUs.
    """
    parts = cut_parts(samples, options.batch_size, parts_folder(model, samples, options, output))
    missing = [part for part in parts if not part.file.exists()]
    if missing:
        predict_parts(model, missing, options, workers)
    result = DistributedResult(Predictions(), stored=len(samples) - sum(len(part.samples) for part in missing))
    for part in parts:
        stored = json.loads(part.file.read_text(encoding="utf-8"))
        for name, values in stored["predictions"].items():
            getattr(result.predictions, name).extend(values)
        result.failed |= stored["failed"]
        result.hashes += stored["hashes"]
    return result


def parts_folder(model: Path, samples: Sequence[Sample], options: PredictOptions, output: Path) -> Path:
    """The folder of parts beside the submission, of this model, these options, and these images as they are now."""
    settings = json.dumps(asdict(options), sort_keys=True)
    digest = hashlib.sha256(f"{sha256(model / 'model.safetensors')} {settings}".encode())
    for sample, stamp in zip(samples, map_in_threads(file_stamp, [sample.path for sample in samples]), strict=True):
        digest.update(f"\n{sample.name}\0{sample.path}\0{stamp}".encode("utf-8", "surrogateescape"))
    return output.with_name(f".{output.stem}.parts-{digest.hexdigest()[:12]}")


def cut_parts(samples: Sequence[Sample], batch_size: int, folder: Path) -> list[PredictionPart]:
    """Parts of as many whole batches each."""
    size = batch_size * max(BATCHES, -(-len(samples) // (PARTS * batch_size)))
    starts = range(0, len(samples), size)
    return [PredictionPart(samples[start : start + size], folder / f"{start:012}.json") for start in starts]


def remove_parts(output: Path) -> None:
    """Removes the parts of a submission that is written, and those of other attempts at it."""
    for folder in output.parent.iterdir():
        if folder.name.startswith(f".{output.stem}.parts-"):
            shutil.rmtree(folder, ignore_errors=True)


def predict_parts(model: Path, parts: list[PredictionPart], options: PredictOptions, workers: int) -> None:
    """Predicts parts by Ray Data, and stores each as it comes back."""
    images = sum(len(part.samples) for part in parts)
    with (
        ray_session(tracking_uri()),
        progress_bar(images, "predicting", show=options.progress) as bar,
    ):
        for row in stream_parts(model, parts, options, workers):
            part = parts[int(row["part"])]
            write_text(part.file, str(row["result"]))
            bar.update(len(part.samples))


def stream_parts(
    model: Path, parts: list[PredictionPart], options: PredictOptions, workers: int
) -> Iterator[dict[str, Any]]:
    """Rows of a part's number and its result as JSON, in the order in which they are done.

    Raises:
        UserError: too few CPUs or GPUs.
    """
    import ray

    resources = worker_resources(ray.cluster_resources(), workers)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [
        {"part": i, "images": json.dumps([sample_to_json(sample) for sample in part.samples])}
        for i, part in enumerate(parts)
    ]
    table = ray.data.from_items(rows, override_num_blocks=len(rows))
    results = table.map_batches(
        PredictionWorker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        fn_constructor_args=(str(model.resolve()), options, str(Path.cwd()), int(resources["num_cpus"])),
        **resources,
    )
    yield from results.iter_rows()


def worker_resources(cluster: dict[str, float], workers: int) -> dict[str, Any]:
    """Each worker's share of a cluster's resources: a GPU where there are such, and CPUs.

    Raises:
        UserError: there is too little.
    """
    gpus, cpus = cluster.get("GPU", 0), int(cluster.get("CPU", 0) // workers)
    if cpus < 1 or 0 < gpus < workers:
        has = f"Ray has {cluster.get('CPU', 0):g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        raise UserError(f"--workers {workers}: {has}; give fewer, or set RAY_ADDRESS to a larger cluster")
    return {"num_cpus": cpus} | ({"num_gpus": 1} if gpus else {})


def sample_to_json(sample: Sample) -> list[Any]:
    """An image to predict, as JSON takes it."""
    return [str(sample.path), sample.name, sample.source]


class PredictionWorker:
    """A worker: the model, loaded once, and one part at a time."""

    def __init__(self, model: str, options: PredictOptions, folder: str, threads: int) -> None:
        """Loads a model folder; paths are relative to the working folder `folder`."""
        enter_working_folder(folder)
        torch.set_num_threads(threads)
        self.predictor, self.options = Predictor.load(Path(model)), replace(options, progress=False)

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Predicts the images of one row."""
        samples = [Sample(Path(path), name, source) for path, name, source in json.loads(str(rows["images"][0]))]
        predictions, failed = self.predictor.predict(samples, self.options)
        hashes = map_in_threads(hash_image, [str(sample.path) for sample in samples])
        result = json.dumps({"predictions": vars(predictions), "failed": failed, "hashes": hashes})
        return {"part": [rows["part"][0]], "result": [result]}
