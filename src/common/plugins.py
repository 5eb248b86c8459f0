"""Plug-ins by file name: `kind: llama` is the file llama.py of its folder.

A plug-in folder is a package such as src.models.decoders. Folders named in the environment variable SRC_PLUGINS hold
more files under the same paths: with SRC_PLUGINS=mine, mine/models/decoders/foo.py is the decoder `foo`. A file whose
name begins with an underscore, and base.py, are no plug-ins.
"""

import difflib
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
        UserError: as check_plugin.
    """
    check_plugin(package, name, key)
    return importlib.import_module(f"{package}.{name}")


def check_plugin(package: str, name: str, key: str) -> None:
    """Raises UserError where there is no such plug-in. Arguments as load_plugin's."""
    if name not in (names := plugin_names(package)):
        near = difflib.get_close_matches(name, names, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(names)}"
        raise UserError(f"{key}: there is no {name}; {remedy}")


def _search_path(package: str) -> list[str]:
    """The package's own folder, then those of SRC_PLUGINS; Python's import searches all of them."""
    module = importlib.import_module(package)
    roots = filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    folders = [str(Path(root).resolve().joinpath(*package.split(".")[1:])) for root in roots]
    path = [str(Path(str(module.__file__)).parent), *folders]
    if path != list(module.__path__):
        module.__path__ = path
        importlib.invalidate_caches()
    return path
