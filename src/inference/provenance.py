"""Provenance of a submission: the model, its run and hashes, the images and how they were predicted."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256 as sha
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.common.files import sha256
from src.config.schema import to_dict
from src.data.sample import Sample
from src.tracking.mlflow_sync import RUN_ID

if TYPE_CHECKING:
    from src.inference.batch_prediction import PredictOptions
    from src.models.model_folder import LoadedModel
from src.inference.fallbacks import mos_range


def relative_path(folder: Path) -> str:
    """A folder's path from the current one, where it lies within; a submission's origin is read on other machines."""
    here = Path.cwd()
    return str(folder.resolve().relative_to(here) if folder.resolve().is_relative_to(here) else folder)


def model_provenance(loaded: "LoadedModel", folder: Path) -> dict[str, Any]:
    """Which model it was: run, config, hashes of its weights and of its training data, validation scores."""
    return {
        "run": loaded.config.track.name,
        "run_id": model_run_id(folder),
        "model": relative_path(folder),
        "model_hash": sha256(folder / "model.safetensors"),
        "training_data_hash": loaded.meta.get("data_hash", ""),
        "validation_scores": loaded.meta.get("scores", {}),
        "config": to_dict(loaded.config),
    }


def model_run_id(folder: Path) -> str:
    """MLflow's id of the run that a model folder is of; empty where it is of none."""
    kept = folder.parent / RUN_ID
    if kept.is_file():
        return kept.read_text(encoding="utf-8").strip()
    return folder.name if re.fullmatch("[0-9a-f]{32}", folder.name) else ""  # fetched from MLflow: named by its run


def prediction_provenance(
    data: str,
    members: Sequence["LoadedModel"],
    samples: list[Sample],
    settings: "PredictOptions",
    lost: dict[str, str],
    hashes: "list[str | None] | None" = None,
) -> dict[str, Any]:
    """Which photos were answered, and how; their `hashes` where they are known already."""
    from src.data.image_hashes import hash_images

    hashes = hashes or hash_images([one.path for one in samples], Path(members[0].config.data.split_dir))
    return {
        "data": data,
        "data_hash": images_hash(samples, hashes),
        "style": settings.style,
        "generate": asdict(settings.generation),
        "mos_range": mos_range(members),
        "fallbacks": list(lost),
    }


def images_hash(samples: list[Sample], hashes: Sequence[str | None]) -> str:
    """SHA-256 over the photos' names and their own SHA-256, in their order."""
    digest = sha()
    for sample, photo in zip(samples, hashes, strict=True):
        digest.update(f"{sample.name}\0{photo}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
