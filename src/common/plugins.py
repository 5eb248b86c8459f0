"""Plug-ins by file name: `kind: llama` is the file llama.py of its folder.

A plug-in folder is a package such as src.models.decoders. Folders named in the environment variable SRC_PLUGINS hold
more files under the same paths: with SRC_PLUGINS=mine, mine/models/decoders/foo.py is the decoder `foo`. A file whose
name begins with an underscore, and base.py, are no plug-ins.
"""

import importlib
import os
import pkgutil
from pathlib import Path
from types import ModuleType

from src.common.errors import UserError

VARIABLE = "SRC_PLUGINS"


def plugin_names(package: str) -> list[str]:
    """Names of the plug-ins of a package such as src.models.decoders, in alphabetical order. Imports none of them."""
    names = (module.name for module in pkgutil.iter_modules(_search_path(package)))
    return sorted(name for name in names if not name.startswith("_") and name != "base")


def load_plugin(package: str, name: str, key: str) -> ModuleType:
    """The module of a plug-in. An error within its file is raised as it is.

    Args:
        package: the plug-in folder as a package: src.models.decoders.
        name: the plug-in.
        key: the config's key or the option that names it, for the message.

    Raises:
        UserError: there is no such plug-in.
    """
    if name not in (names := plugin_names(package)):
        raise UserError(f"{key}: there is no {name}; choose one of {', '.join(names)}")
    return importlib.import_module(f"{package}.{name}")


def _search_path(package: str) -> list[str]:
    """The folders of a package; those of SRC_PLUGINS are added to it."""
    path = importlib.import_module(package).__path__
    folders = filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    for folder in (str(Path(root).resolve().joinpath(*package.split(".")[1:])) for root in folders):
        if folder not in path:
            path.append(folder)
    return list(path)
