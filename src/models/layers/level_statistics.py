"""Mean and standard deviation over space of a network's layers: the inputs of the mos head.
Held by tests/models/backbones/test_base.py.

Notation: B images, C channels.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from src.common.errors import UserError

MOST_LEVELS = 7  # stages of a CNN; blocks of a plain transformer are more
EPSILON = 1e-6  # added to a variance, so that a constant channel has a finite gradient

Statistics = tuple[Tensor, Tensor]


def level_indices(network: Any) -> list[int] | None:
    """Which of a network's stages give levels: all (None), or of many alike ones, as in a ViT, four evenly spaced."""
    count = len(network.feature_info)
    return None if count <= MOST_LEVELS else [round((i + 1) * count / 4) - 1 for i in range(4)]


def spatial_statistics(stage: Tensor) -> Statistics:
    """Mean and standard deviation over space, each [B, C] fp32, of [B, C, H, W]."""
    # Two passes in fp32, since the mean of squares less the square of the mean loses all digits far from 0; over rows,
    # then over their means, since long sums lose digits too; sums as matrix products, since torch's own reductions over
    # space take twice as long where channels come last.
    with torch.autocast(stage.device.type, enabled=False):
        values = stage.permute(0, 2, 3, 1).float()
        mean = _mean_over_space(values)
        variance = _mean_over_space((values - mean[:, :, None]).square())
        return mean.squeeze(1), (variance.squeeze(1) + EPSILON).sqrt()


def _mean_over_space(values: Tensor) -> Tensor:
    """[B, H, W, C] to [B, 1, C]."""
    height, width = values.shape[1:3]
    rows = torch.matmul(values.new_full((1, width), 1 / width), values).squeeze(2)
    return torch.matmul(values.new_full((1, height), 1 / height), rows)


def matching_modules(network: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """The modules whose names match a regular expression, in order; none for an empty one.

    Raises:
        UserError: no name matches, or the pattern is no regular expression.
    """
    if not pattern:
        return {}
    try:
        modules = {name: module for name, module in network.named_modules() if re.search(pattern, name)}
    except re.error as error:
        raise UserError(f"model.backbone.levels: {pattern!r} is no regular expression: {error}") from error
    if not modules:
        names = ", ".join(list(dict(network.named_modules()))[1:40:8])
        raise UserError(f"model.backbone.levels: no module matches {pattern!r}; names are such as {names}")
    return modules


@contextmanager
def output_statistics(modules: dict[str, nn.Module]) -> Iterator[dict[str, Statistics]]:
    """Within the block, the statistics of each module's output appear under its name; outputs are not stored."""
    statistics: dict[str, Statistics] = {}

    def make_hook(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            statistics[name] = spatial_statistics(output)

        return hook

    handles = [module.register_forward_hook(make_hook(name)) for name, module in modules.items()]
    try:
        yield statistics
    finally:
        for handle in handles:
            handle.remove()
