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
    from src.inference.batch_prediction import Settings
    from src.models.model_folder import Loaded
from src.inference.fallbacks import mos_range


def relative(folder: Path) -> str:
    """A folder's path from the current one, where it lies within; a submission's origin is read on other machines."""
    here = Path.cwd()
    return str(folder.resolve().relative_to(here) if folder.resolve().is_relative_to(here) else folder)


def about_model(loaded: "Loaded", folder: Path) -> dict[str, Any]:
    """Which model it was: run, config, hashes of its weights and of its training data, validation scores."""
    return {
        "run": loaded.config.track.name,
        "run_id": run_id(folder),
        "model": relative(folder),
        "model_hash": sha256(folder / "model.safetensors"),
        "training_data_hash": loaded.meta.get("data_hash", ""),
        "validation_scores": loaded.meta.get("scores", {}),
        "config": to_dict(loaded.config),
    }


def run_id(folder: Path) -> str:
    """MLflow's id of the run that a model folder is of; empty where it is of none."""
    kept = folder.parent / RUN_ID
    if kept.is_file():
        return kept.read_text(encoding="utf-8").strip()
    return folder.name if re.fullmatch("[0-9a-f]{32}", folder.name) else ""  # fetched from MLflow: named by its run


def about_answers(
    data: str,
    members: Sequence["Loaded"],
    samples: list[Sample],
    settings: "Settings",
    lost: dict[str, str],
    hashes: "list[str | None] | None" = None,
) -> dict[str, Any]:
    """Which photos were answered, and how; their `hashes` where they are known already."""
    from src.data.image_hashes import photo_hashes

    hashes = hashes or photo_hashes([one.path for one in samples], Path(members[0].config.data.split_dir))
    return {
        "data": data,
        "data_hash": data_hash(samples, hashes),
        "style": settings.style,
        "generate": asdict(settings.generation),
        "mos_range": mos_range(members),
        "fallbacks": list(lost),
    }


def data_hash(samples: list[Sample], hashes: Sequence[str | None]) -> str:
    """SHA-256 over the photos' names and their own SHA-256, in their order."""
    digest = sha()
    for sample, photo in zip(samples, hashes, strict=True):
        digest.update(f"{sample.name}\0{photo}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
