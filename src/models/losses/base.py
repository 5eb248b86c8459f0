"""Losses of the mos head. Each file of this folder is one, chosen by its name in model.mos.losses.
Held by tests/models/test_plugins.py.

A file exports `loss(predicted, target, weight=None)`: predictions and targets [R] in standard deviations of
the training mos, without missing labels, and factors [R] on the images' losses, None for 1.
Its value is a mean, so that it does not depend on the batch size, and finite for R of 0 or 1 and for constants.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from src.common.plugins import load_plugin
from src.config.plugin_keys import LOSSES

MosLoss = Callable[..., Tensor]


def load_losses(weights: Mapping[str, float]) -> dict[str, MosLoss]:
    """The losses with a weight above 0, by name.

    Raises:
        UserError: there is no loss of a name.
    """
    return {name: load_plugin(LOSSES, name, "model.mos.losses").loss for name, weight in weights.items() if weight}


def weigh(values: Tensor, weight: Tensor | None) -> Tensor:
    """Values times their weights of the same shape; None: 1."""
    return values if weight is None else values * weight
