"""A model by its name: folder, run name, run id or best."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from src.models.model_folder import LoadedModel


def load_model(name: str) -> tuple["LoadedModel", Path]:
    """The model of a folder, run name, run id or `best`, and its folder.

    Raises:
        UserError: there is none.
    """
    from src.data.leaky_split import warn_leaky_model
    from src.models.model_folder import load_model_folder
    from src.tracking.run_registry import find_model

    folder = find_model(name)
    loaded = load_model_folder(folder)
    warn_leaky_model(name, loaded.config.data)
    return loaded, folder
