"""Files of weights: their tensors under a network's names, or a refusal.

A file holds a network's tensors under any prefix (`module.`, `backbone.`, `state_dict.model._orig_mod.`), alone or
beside others: a checkpoint of timm or Lightning, of DataParallel or torch.compile, or with a moving average, or a model
folder of this project.
Held by tests/models/backbones/test_weights_file.py.
"""

import argparse
import codecs
import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from src.common.errors import UserError, one_line
from src.models.safetensors_file import read_safetensors

KEY = "model.backbone.weights"
IN_FOLDERS = (
    "model.safetensors",
    "model/model.safetensors",
    "pytorch_model.bin",
)  # of a model folder, a run, a library
# Harmless types that stand beside the tensors in many checkpoints: arguments, paths, scores of numpy.
NUMPY_SCALAR = [(np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
SAFE_TYPES: list[Any] = [
    argparse.Namespace,
    PosixPath,
    codecs.encode,
    np.dtype,
    *(type(np.dtype(c)) for c in "fdlq"),
    *NUMPY_SCALAR,
]
WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
AVERAGE = re.compile(r"(^|[._])(ema|teacher|swa|averaged?)([._]|$)")
COUNTER = "num_batches_tracked"  # of batch normalisation; older files lack it, and it changes nothing

Tensors = Mapping[str, Tensor]
Converter = Callable[[dict[str, Tensor], nn.Module], Tensors]


def is_weights_file(weights: str) -> bool:
    """Whether model.backbone.weights names a file or folder."""
    return weights not in ("imagenet", "bundled", "none")


def find_weights_file(weights: str) -> Path:
    """The file that model.backbone.weights names, itself or within a folder. Raises UserError where there is none."""
    path = Path(weights).expanduser()
    for file in (path, *(path / name for name in IN_FOLDERS)):
        if file.is_file():
            return file
    raise UserError(
        f"{KEY}: {weights} is no file; give a file, a model folder, imagenet (from the hub), bundled or none"
    )


def load_tensors(
    network: nn.Module,
    tensors: Tensors,
    source: str,
    heads: tuple[str, ...] = (),
    convert: Converter | None = None,
) -> None:
    """Loads a file's tensors into a network.

    Args:
        network: receives the tensors; it may lack the head that the file has.
        tensors: of the file, with whatever prefix.
        source: file and name of the network, for messages.
        heads: top-level modules that the features do not need: any of their tensors may be missing.
        convert: turns layouts of other libraries, and of other image sizes, into the network's.

    Raises:
        UserError: the network would be in part random, or the tensors are those of a larger one.
    """
    state: Tensors = match_tensors(network, tensors)
    if problem := find_misfit(network, state, heads):
        candidates = (state, tensors, _largest_part(tensors))
        state = next(_conversions(network, candidates, heads, convert), {}) if convert else {}
        if not state:
            raise UserError(f"{KEY}: {source}: {problem}; the file has {_list_names(tensors)}")
    network.load_state_dict(dict(state), strict=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by their dotted names, without running any code of the file.

    Raises:
        UserError: it cannot be read, is no file of weights, or holds none.
    """
    try:
        tensors = dict(_flatten(_read(path)))
    except OSError as error:
        raise UserError(f"{KEY}: {path} cannot be read ({error.strerror or one_line(error)})") from error
    except Exception as error:  # torch raises many kinds for files of other contents
        raise UserError(f"{KEY}: {path} {_unreadable(path, error)}") from error
    if not tensors:
        raise UserError(f"{KEY}: {path} holds no tensors; give a file with a network's state_dict()")
    return {WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}


def match_tensors(network: nn.Module, tensors: Tensors) -> dict[str, Tensor]:
    """The tensors behind the prefix that fits a network best, without it; of equal ones a moving average."""
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    hits: Counter[str] = Counter()
    for name, tensor in tensors.items():
        hits.update(prefix for prefix in _prefixes(name) if shapes.get(name[len(prefix) :]) == tensor.shape)
    if not hits:
        return dict(tensors)
    best = max(hits, key=lambda prefix: (hits[prefix], bool(AVERAGE.search(prefix)), -len(prefix)))
    return {name[len(best) :]: tensor for name, tensor in tensors.items() if name.startswith(best)}


def find_misfit(network: nn.Module, state: Tensors, heads: tuple[str, ...]) -> str:
    """Why the network would be in part random with these tensors, or be a part of another; empty where it fits."""
    needed = {n: t for n, t in network.state_dict().items() if n.split(".")[0] not in heads and not n.endswith(COUNTER)}
    missing = [name for name, tensor in needed.items() if name not in state or state[name].shape != tensor.shape]
    if missing:
        of = f"{len(missing)} of its {len(needed)} tensors are missing or of another shape"
        return f"{of}, such as {missing[0]}"
    modules = {name.split(".")[0] for name in needed}
    foreign = [name for name in state if name.split(".")[0] in modules and name not in network.state_dict()]
    return f"it has no place for {len(foreign)} of the tensors, such as {foreign[0]}" if foreign else ""


def _conversions(
    network: nn.Module, candidates: tuple[Tensors, ...], heads: tuple[str, ...], convert: Converter
) -> Iterator[Tensors]:
    """Those candidates that fit the network once they are converted."""
    for candidate in candidates:
        with suppress(Exception):  # a converter takes the layouts that it knows for granted
            converted = convert(dict(candidate), network)
            if not find_misfit(network, converted, heads):
                yield converted


def _largest_part(tensors: Tensors) -> Tensors:
    """The tensors behind the most frequent first part of the names, without it."""
    part = Counter(name.partition(".")[0] for name in tensors).most_common(1)[0][0] + "."
    return {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}


def _read(path: Path) -> Any:
    try:
        return read_safetensors(path)[0]
    except SafetensorError:
        with torch.serialization.safe_globals(SAFE_TYPES):
            return torch.load(path, map_location="cpu", weights_only=True)


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flatten(item, f"{name}.{key}" if name else str(key))


def _unreadable(path: Path, error: Exception) -> str:
    if path.suffix == ".safetensors" or not isinstance(error, pickle.UnpicklingError | RuntimeError):
        return f"is damaged or no file of weights ({type(error).__name__}); fetch it again"
    with suppress(Exception):
        if code := sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path)):
            return f"holds code, which is not run ({', '.join(code[:3])}); save the network's state_dict() alone"
    return "is damaged or no file of weights; fetch it again"


def _prefixes(name: str) -> Iterator[str]:
    """The empty text, and what precedes each part of a dotted name."""
    yield ""
    yield from (name[: dot.end()] for dot in re.finditer(r"\.", name))


def _list_names(tensors: Tensors) -> str:
    return f"{len(tensors)} tensors: {', '.join(list(tensors)[:3])}{', ...' if len(tensors) > 3 else ''}"
