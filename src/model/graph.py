"""The model as functions of tensors alone: what torch.compile and ONNX take. The beam stays in Python.

Notation: B photos or views of them, N places of the grid, C channels, P photos and R captions in work, V tokens,
L layers, H units of the state, A units of the attention.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from src.data.store import Kind
from src.errors import UserError
from src.model.multitask import Multitask
from src.model.recurrent import Recurrent, State
from src.model.sharing import needed

Graph = Callable[..., Sequence[Tensor]]


class Encoder(nn.Module):
    """Pixels [B, 3, H, W] in 0..1 to what is wanted of them: mos [B], then grid [B, N, C]."""

    def __init__(self, model: Multitask, kinds: Sequence[Kind]) -> None:
        """The backbone, and the mos head where `kinds` has levels."""
        super().__init__()
        self.backbone, self.mos, self.kinds = model.backbone, model.mos, set(kinds)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """One or two outputs."""
        if self.mos is None or "levels" not in self.kinds:
            return (self.backbone.grid(pixels),)
        if "grid" not in self.kinds:
            return (self.mos(self.backbone.levels(pixels)),)
        features = self.backbone(pixels)
        return self.mos(features.levels), features.grid


class Start(nn.Module):
    """Grid [P, N, C] to keys [P, N, A], values [P, N, H], hidden [P, L, H] and cell [P, L, H]; sizes 0 as State's."""

    def __init__(self, decoder: Recurrent) -> None:
        """A decoder's start."""
        super().__init__()
        self.decoder = decoder

    def forward(self, grid: Tensor) -> tuple[Tensor, ...]:
        """The state of one caption a photo."""
        state = self.decoder.start(grid)
        return state.keys, state.values, state.hidden, state.cell


@dataclass
class Apart(State):
    """A state whose keys and values are each caption's own, [R, N, ..]."""

    def grids(self) -> tuple[Tensor, Tensor]:
        """As they are."""
        return self.keys, self.values


class Step(nn.Module):
    """One token further: logits [R, V], hidden and cell [R, L, H], attention [R, N]."""

    def __init__(self, decoder: Recurrent) -> None:
        """A decoder's step."""
        super().__init__()
        self.decoder = decoder

    def forward(
        self, keys: Tensor, values: Tensor, photo: Tensor, hidden: Tensor, cell: Tensor, tokens: Tensor
    ) -> tuple[Tensor, ...]:
        """Keys and values of the photos, each caption's photo [R] int64, its state, and its last token [R] int64."""
        state = Apart(keys[photo], values[photo], photo, hidden, cell)
        logits, after, weights = self.decoder.step(state, tokens)
        return logits, after.hidden, after.cell, weights


@dataclass
class GraphState(State):
    """As State, for functions that pick each caption's photo themselves."""

    def select(self, rows: Tensor) -> "GraphState":
        """The captions rows [R'] int64 of this state."""
        photo, (keys, values) = needed(self.photo[rows], [self.keys, self.values])
        return GraphState(keys, values, photo, self.hidden[rows], self.cell[rows])


class GraphDecoder:
    """A decoder for `generation` made of two functions: Start's and Step's, whoever computes them."""

    def __init__(self, start: Graph, step: Graph) -> None:
        """Functions that take and give what Start and Step do."""
        self.first, self.next = start, step

    def start(self, grid: Tensor) -> GraphState:
        """The state of one caption a photo, from grid [P, N, C]."""
        keys, values, hidden, cell = self.first(grid)
        return GraphState(keys, values, torch.arange(len(grid), device=grid.device), hidden, cell)

    def step(self, state: GraphState, tokens: Tensor) -> tuple[Tensor, Any, Tensor]:
        """Logits [R, V], the next state and attention [R, N], from the last tokens [R]."""
        given = (state.keys, state.values, state.photo, state.hidden, state.cell, tokens)
        logits, hidden, cell, weights = self.next(*given)
        return logits, GraphState(state.keys, state.values, state.photo, hidden, cell), weights


def recurrent(model: Multitask) -> Recurrent | None:
    """The model's decoder, where it has one.

    Raises:
        UserError: it is of a kind whose state is no fixed set of tensors.
    """
    if model.decoder is None or isinstance(model.decoder, Recurrent):
        return model.decoder
    kind = model.config.decoder.kind
    raise UserError(f"model.decoder.kind is {kind}: only recurrent decoders can be exported; choose another run")
