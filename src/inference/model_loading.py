"""A model by its name: folder, run name, run id or best; all models of a group.

Held by tests/data/test_leaky_split.py, tests/inference/test_predict_submission.py and test_ensemble.py.
"""

from collections.abc import Sequence
from pathlib import Path

from torch.nn import ModuleList

from src.data.leaky_split import warn_leaky_model
from src.models.backbones.base import Backbone
from src.models.model_folder import LoadedModel, load_model_folder
from src.tracking.run_registry import find_model


def load_model(name: str) -> tuple[LoadedModel, Path]:
    """The model of a folder, run name, run id or `best`, and its folder.

    Raises:
        UserError: there is none.
    """
    folder = find_model(name)
    loaded = load_model_folder(folder)
    warn_leaky_model(name, loaded.config.data)
    return loaded, folder


def load_members(folders: Sequence[Path]) -> list[tuple[LoadedModel, Path]]:
    """The models of several folders; those with equal networks share the first one's, and so its features."""
    members: list[tuple[LoadedModel, Path]] = []
    networks: dict[str, Backbone] = {}
    for folder in folders:
        loaded, path = load_model(str(folder))
        shared = [networks.setdefault(network.fingerprint("levels"), network) for network in loaded.model.networks]
        loaded.model.backbone, loaded.model.mos_backbones = shared[0], ModuleList(shared[1:])
        members.append((loaded, path))
    return members
