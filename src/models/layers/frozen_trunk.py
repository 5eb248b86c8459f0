"""The frozen part of a network below its trained layers, whose output a feature store can hold.

A trunk is a chain of modules from the pixels on: each reads the output of the module before it, and none is trained.
The network continues from a stored output with those modules passed over. A network whose first modules are no such
chain cannot be cut. Held by tests/models/layers/test_frozen_trunk.py.

Notation: B images, [C, H, W] the shape of the trunk's output, S statistics of the levels inside the trunk.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

WORDS = 2  # 16-bit words of a statistic, which is stored in fp32


@dataclass(eq=False)
class ModuleCall:
    """One call of a module, with its first input and its output."""

    name: str
    input: Any
    output: Any = None

    def is_inside(self, modules: Sequence[str]) -> bool:
        """Whether the module is one of some modules or a part of one."""
        return any(f"{self.name}.".startswith(f"{name}.") for name in modules)


@dataclass(frozen=True)
class Trunk:
    """A frozen trunk.

    Attributes:
        modules: names of its modules, in their order.
        levels: names of those modules inside it whose outputs the mos head reads.
        channels: C.
        statistics: S.
    """

    modules: list[str]
    levels: list[str]
    channels: int = 0
    statistics: int = 0


def find_trunk(network: nn.Module, run: Callable[[], Any], image: Tensor) -> tuple[list[ModuleCall], list[str]]:
    """All calls of modules in a pass, and the names of the longest chain of frozen modules from the image on.

    Args:
        network: its trained parameters have requires_grad.
        run: computes the network for the image.
        image: [B, 3, H, W], the very tensor that the network reads.
    """
    calls = _record_calls(network, run)
    modules = dict(network.named_modules())
    chain: list[str] = []
    value, remaining = image, calls
    while following := [call for call in remaining if call.input is value and _is_frozen(modules[call.name])]:
        step = following[0]
        chain.append(step.name)
        value, start = step.output, remaining.index(step) + 1
        remaining = [call for call in remaining[start:] if not call.name.startswith(step.name + ".")]
    return calls, chain


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _record_calls(network: nn.Module, run: Callable[[], Any]) -> list[ModuleCall]:
    """The calls of a network's submodules in one pass, outer ones before inner ones."""
    calls: list[ModuleCall] = []
    open_calls: list[ModuleCall] = []
    names = {module: name for name, module in network.named_modules() if name}

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        open_calls.append(ModuleCall(names[module], inputs[0] if len(inputs) == 1 else None))
        calls.append(open_calls[-1])

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        open_calls.pop().output = output

    handles = [module.register_forward_pre_hook(before) for module in names]
    handles += [module.register_forward_hook(after) for module in names]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return calls


@contextmanager
def passed_over(network: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Within the block, modules of a network return their input."""
    parents = [network.get_submodule(name.rpartition(".")[0]) for name in names]
    keys = [name.rpartition(".")[2] for name in names]
    modules = [parent._modules[key] for parent, key in zip(parents, keys, strict=True)]
    try:
        for parent, key in zip(parents, keys, strict=True):
            parent._modules[key] = nn.Identity()
        yield
    finally:
        for parent, key, module in zip(parents, keys, modules, strict=True):
            parent._modules[key] = module


def pack_trunk(activation: Tensor, statistics: Tensor) -> Tensor:
    """A row of a feature store: [B, C, H, W], rounded to bf16, and statistics [B, S] in fp32, as [B, words] int16."""
    values = activation.permute(0, 2, 3, 1).flatten(1).bfloat16().contiguous().view(torch.int16)
    return torch.cat([values, statistics.float().contiguous().view(torch.int16)], dim=1)


def unpack_trunk(packed: Tensor, trunk: Trunk) -> tuple[Tensor, Tensor]:
    """The output [B, C, H, W] of square images, channels last, and the statistics [B, S], both in fp32."""
    rest = WORDS * trunk.statistics
    values, words = packed.split([packed.shape[1] - rest, rest], dim=1)
    side = isqrt(values.shape[1] // trunk.channels)
    activation = values.contiguous().view(torch.bfloat16).view(-1, side, side, trunk.channels)
    return activation.permute(0, 3, 1, 2).float(), words.contiguous().view(torch.float32)
