"""A prediction spread over processes and machines by Ray Data, in parts that are kept until all of them are there.

A part is a stretch of photos as long as some batches, so that a photo is in the batch that one process would put it in,
and the answers are the same. Parts come back in any order; each is a file beside the submission, so that the same
command, given again, answers only what is missing.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256 as sha
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from src.common.errors import UserError
from src.common.files import sha256, write_text
from src.data.sample import Sample

if TYPE_CHECKING:
    import numpy as np

    from src.inference.batch_prediction import PredictOptions
    from src.inference.predictions import Predictions

BATCHES = 16  # of a part: what is lost at most when all goes down, for each worker
PARTS = 2000  # about as many as Ray Data carries well; of a larger table each part is longer


@dataclass
class PredictionPart:
    """A stretch of photos and, once they are answered, where the answers are kept."""

    samples: Sequence[Sample]
    file: Path


@dataclass
class DistributedResult:
    """Answers for all photos, in their order.

    Attributes:
        answers: as `predict_images` gives them.
        failed: likewise: why photos could not be read, by name.
        hashes: SHA-256 of each photo, None where it cannot be read.
        kept: how many of the photos were answered before, by a command that was cut short.
    """

    answers: "Predictions"
    failed: dict[str, str] = field(default_factory=dict)
    hashes: list[str | None] = field(default_factory=list)
    kept: int = 0


def predict_distributed(
    model: Path, samples: Sequence[Sample], settings: "PredictOptions", workers: int, output: Path
) -> tuple[DistributedResult, Path]:
    """Answers photos in `workers` processes.

    Args:
        model: the model's folder, where every machine can read it; so must be the photos.
        samples: the photos.
        settings: how to answer.
        workers: how many, each with a GPU where Ray has such, or its part of the CPUs.
        output: the submission that it is for.

    Returns:
        The answers, and the folder of parts, for the caller to remove once the submission is written.

    Raises:
        UserError: too few CPUs or GPUs.
    """
    from src.inference.predictions import Predictions

    folder = parts_folder(model, samples, settings, output)
    parts = cut_parts(samples, settings.batch_size, folder)
    missing = [part for part in parts if not part.file.exists()]
    if missing:
        predict_parts(model, missing, settings, workers)
    whole = DistributedResult(Predictions(), kept=len(samples) - sum(len(part.samples) for part in missing))
    for part in parts:
        kept = json.loads(part.file.read_text(encoding="utf-8"))
        for name, values in kept["answers"].items():
            getattr(whole.answers, name).extend(values)
        whole.failed |= kept["failed"]
        whole.hashes += kept["hashes"]
    return whole, folder


def parts_folder(model: Path, samples: Sequence[Sample], settings: "PredictOptions", output: Path) -> Path:
    """Where parts are kept: beside the submission, for this model, these settings, and these photos as they are now."""
    from src.data.image_hashes import file_stamp, map_in_threads

    digest = sha(f"{sha256(model / 'model.safetensors')} {json.dumps(asdict(settings), sort_keys=True)}".encode())
    for sample, stat in zip(samples, map_in_threads(file_stamp, [one.path for one in samples]), strict=True):
        digest.update(f"\n{sample.name}\0{sample.path}\0{stat}".encode("utf-8", "surrogateescape"))
    return output.with_name(f".{output.stem}.parts-{digest.hexdigest()[:12]}")


def cut_parts(samples: Sequence[Sample], batch_size: int, folder: Path) -> list[PredictionPart]:
    """Parts of as many whole batches each."""
    size = batch_size * max(BATCHES, -(-len(samples) // (PARTS * batch_size)))
    starts = range(0, len(samples), size)
    return [PredictionPart(samples[start : start + size], folder / f"{start:012}.json") for start in starts]


def remove_parts_folder(folder: Path, output: Path) -> None:
    """Removes the parts of a submission that is written, and those left of other attempts at it."""
    for other in {folder, *output.parent.glob(f".{output.stem}.parts-*")}:
        shutil.rmtree(other, ignore_errors=True)


def predict_parts(model: Path, parts: list[PredictionPart], settings: "PredictOptions", workers: int) -> None:
    """Answers parts by Ray Data, and keeps each as it comes back."""
    from src.common.ray_cluster import ray_session
    from src.tracking.mlflow_client import tracking_uri

    photos = sum(len(part.samples) for part in parts)
    with (
        ray_session(tracking_uri()),
        tqdm(total=photos, desc="answering", unit="photo", disable=not settings.progress) as bar,
    ):
        for row in stream_parts(model, parts, settings, workers):
            part = parts[int(row["part"])]
            write_text(part.file, str(row["kept"]))
            bar.update(len(part.samples))


def stream_parts(
    model: Path, parts: list[PredictionPart], settings: "PredictOptions", workers: int
) -> Iterator[dict[str, Any]]:
    """Rows of a part's number and its answers as JSON, in the order in which they are done.

    Raises:
        UserError: too few CPUs or GPUs.
    """
    import ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    held = worker_resources(ray.cluster_resources(), workers)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    rows = [
        {"part": i, "photos": json.dumps([sample_to_json(one) for one in part.samples])} for i, part in enumerate(parts)
    ]
    table = ray.data.from_items(rows, override_num_blocks=len(rows))
    made = (str(model.resolve()), settings, str(Path.cwd()), int(held["num_cpus"]))
    answered = table.map_batches(
        PredictionWorker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        fn_constructor_args=made,
        **held,
    )
    yield from answered.iter_rows()


def worker_resources(there: dict[str, float], workers: int) -> dict[str, Any]:
    """What each worker holds of a cluster's resources: a GPU where there are such, and its share of the CPUs.

    Raises:
        UserError: there is too little.
    """
    gpus, cpus = there.get("GPU", 0), int(there.get("CPU", 0) // workers)
    if cpus < 1 or 0 < gpus < workers:
        has = f"Ray has {there.get('CPU', 0):g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        raise UserError(f"--workers {workers}: {has}; ask for fewer, or set RAY_ADDRESS to a larger cluster")
    return {"num_cpus": cpus} | ({"num_gpus": 1} if gpus else {})


def sample_to_json(sample: Sample) -> list[Any]:
    """A photo to answer, as JSON takes it."""
    return [str(sample.path), sample.name, sample.source]


class PredictionWorker:
    """A worker: the model, loaded once, and a part at a time."""

    def __init__(self, model: str, settings: "PredictOptions", home: str, threads: int) -> None:
        import torch

        from src.common.ray_cluster import enter_working_folder
        from src.models.model_folder import load_model_folder

        enter_working_folder(home)
        torch.set_num_threads(threads)
        self.loaded, self.settings = load_model_folder(Path(model)), settings
        self.settings.progress = False

    def __call__(self, rows: "dict[str, np.ndarray]") -> dict[str, list[Any]]:
        """Answers the photos of one row."""
        from src.data.image_hashes import hash_image, map_in_threads
        from src.inference.batch_prediction import predict_images

        samples = [Sample(Path(path), name, source) for path, name, source in json.loads(str(rows["photos"][0]))]
        answers, failed = predict_images(self.loaded, samples, self.settings)
        hashes = map_in_threads(hash_image, [str(sample.path) for sample in samples])
        kept = json.dumps({"answers": vars(answers), "failed": failed, "hashes": hashes})
        return {"part": [rows["part"][0]], "kept": [kept]}
