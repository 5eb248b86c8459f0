"""Provenance of a submission: the model, its run and hashes, the images and how they were predicted.

Held by tests/inference/test_predict_submission.py and tests/golden/test_submissions.py.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src.common.files import sha256
from src.config.schema import to_dict
from src.data.image_hashes import hash_images
from src.data.sample import Sample
from src.inference.fallbacks import mos_range
from src.inference.predict_options import PredictOptions
from src.models.model_folder import ModelDescription
from src.tracking.mlflow_sync import read_run_id


def relative_path(folder: Path) -> str:
    """A folder's path from the current folder, where it lies within: provenance is read on other machines."""
    current, path = Path.cwd(), folder.resolve()
    return str(path.relative_to(current) if path.is_relative_to(current) else folder)


def model_provenance(description: ModelDescription, folder: Path) -> dict[str, Any]:
    """A model's run, config, hashes of its weights and of its training data, and validation scores."""
    return {
        "run": description.config.track.name,
        "run_id": model_run_id(folder),
        "model": relative_path(folder),
        "model_hash": sha256(folder / "model.safetensors"),
        "training_data_hash": description.meta.get("data_hash", ""),
        "validation_scores": description.meta.get("scores", {}),
        "config": to_dict(description.config),
    }


def model_run_id(folder: Path) -> str:
    """MLflow's id of a model folder's run; empty where there is none."""
    fetched = re.fullmatch("[0-9a-f]{32}", folder.name)  # from MLflow: named by its run
    return read_run_id(folder.parent) or (folder.name if fetched else "")


def prediction_provenance(
    data: str,
    members: Sequence[ModelDescription],
    samples: Sequence[Sample],
    options: PredictOptions,
    fallbacks: dict[str, str],
    hashes: Sequence[str | None] = (),
) -> dict[str, Any]:
    """The images and how they were predicted; `hashes` of their files where they are known already."""
    hashes = hashes or hash_images([sample.path for sample in samples], Path(members[0].config.data.split_dir))
    return {
        "data": data,
        "data_hash": images_hash(samples, hashes),
        "style": options.style,
        "generate": asdict(options.generation),
        **({} if options.views is None else {"views": asdict(options.views)}),
        "mos_range": mos_range(members),
        "fallbacks": list(fallbacks),
    }


def images_hash(samples: Sequence[Sample], hashes: Sequence[str | None]) -> str:
    """SHA-256 over the images' names and their own SHA-256, in their order."""
    digest = hashlib.sha256()
    for sample, image in zip(samples, hashes, strict=True):
        digest.update(f"{sample.name}\0{image}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
