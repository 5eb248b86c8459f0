"""A model by its name: folder, run name, run id or best.

Held by tests/data/test_leaky_split.py and tests/inference/test_predict_submission.py.
"""

from pathlib import Path

from src.data.leaky_split import warn_leaky_model
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
