"""torch.compile where it helps: blocks of transformers. Each is compiled once, for batches of any size."""

import torch
from torch import Tensor

from src.common.errors import UserError
from src.models.decoders.base import CaptionDecoder


def compile_blocks(decoder: CaptionDecoder, device: torch.device) -> None:
    """Compiles the blocks of CaptionDecoder.compiled_parts when they are first run; generation is not compiled.

    Raises:
        UserError: no compiler works for the device.
    """
    try_compiler(device)
    for part in decoder.compiled_parts:
        for block in getattr(decoder, part):
            block.compile(dynamic=True)


def try_compiler(device: torch.device) -> None:
    """Raises UserError where nothing can be compiled for the device."""
    try:
        torch.compile(_sum, options={"force_disable_caches": True})(torch.ones(8, device=device))
    except Exception as error:  # each of the compilers fails in its own way
        reason = str(error).strip().partition("\n")[0][:200]  # advice on how to debug torch follows
        raise UserError(f"train.compile: no compiler works ({reason}); install g++, or set it false") from error


def _sum(values: Tensor) -> Tensor:
    return values.sin().sum()
