"""The device of a computation, and its mixed precision as `train.precision` names it."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether a device computes faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    info = Path("/proc/cpuinfo")
    flags = info.read_text() if info.is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def resolve_precision(precision: str, device: torch.device) -> str:
    """32, bf16 or fp16 for a `train.precision`, which may be auto."""
    if precision != "auto":
        return precision
    return "bf16" if has_fast_bf16(device) else "32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The context in which layers compute in the precision of `train.precision`."""
    kind = resolve_precision(precision, device)
    if kind == "32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if kind == "bf16" else torch.float16)
