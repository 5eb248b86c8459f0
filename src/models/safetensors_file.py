"""Tensors of safetensors files, whose header is bounded before it is parsed.

Held by tests/models/test_model_folder.py and tests/models/backbones/test_weights_file.py.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

MAX_HEADER = 10_000_000  # bytes; a tensor takes about 100


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by name, on the CPU, and its metadata.

    Raises:
        SafetensorError: it is no such file, it is damaged, or its header has more than MAX_HEADER bytes.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:  # the header's length, 8 bytes little-endian, then the header as JSON
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise SafetensorError(f"its header has {length:,} bytes, at most {MAX_HEADER:,} are read")
    with safe_open(path, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
