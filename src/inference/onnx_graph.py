"""The model as functions of tensors alone: what torch.compile and ONNX take. The beam stays in Python.

Notation: B photos or views of them, N places of the grid, C channels, P photos and R captions in work, V tokens.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.common.plugins import plugin_names
from src.config.plugin_keys import DECODERS, decoder_class
from src.data.feature_store import FeatureKind
from src.models.decoders.base import CaptionDecoder
from src.models.layers.decoder_state import DecoderState, StateLayout
from src.models.multitask import MultitaskModel

Graph = Callable[..., Sequence[Tensor]]


class EncoderGraph(nn.Module):
    """Pixels [B, 3, H, W] in 0..1 to what is wanted of them: mos [B], then grid [B, N, C]."""

    def __init__(self, model: MultitaskModel, kinds: Sequence[FeatureKind]) -> None:
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


class StartGraph(nn.Module):
    """Grid [P, N, C] to the parts of a state: those shared, then the captions' own."""

    def __init__(self, decoder: CaptionDecoder) -> None:
        """A decoder's start."""
        super().__init__()
        self.decoder = decoder

    def forward(self, grid: Tensor) -> list[Tensor]:
        """The state of one caption a photo."""
        state = self.decoder.start(grid)
        return state.shared + state.parts


class UnsharedState(DecoderState):
    """A state whose shared parts are each caption's own, [R, ...]."""

    def grouped_shared(self) -> list[Tensor]:
        """As they are."""
        return self.shared


class StepGraph(nn.Module):
    """One token further: logits [R, V], attention [R, N], then the captions' own parts."""

    def __init__(self, decoder: CaptionDecoder) -> None:
        """A decoder's step."""
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor, photo: Tensor, shared: list[Tensor], own: list[Tensor]) -> list[Tensor]:
        """The last token and the photo of each caption [R] int64, and the parts of their state."""
        state = UnsharedState(photo, [part[photo] for part in shared], own)
        logits, after, weights = self.decoder.step(state, tokens)
        return [logits, weights, *after.parts]


class GraphDecoder:
    """A decoder for `generation` made of two functions: Start's and Step's, whoever computes them."""

    def __init__(self, start: Graph, step: Graph, form: StateLayout) -> None:
        """Functions that take and give what Start and Step do, and what the state between them is made of."""
        self.first, self.next, self.form = start, step, form

    def start(self, grid: Tensor) -> DecoderState:
        """The state of one caption a photo, from grid [P, N, C]."""
        parts, shared = list(self.first(grid)), self.form.shared
        return DecoderState(torch.arange(len(grid), device=grid.device), parts[:shared], parts[shared:])

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState, Tensor]:
        """Logits [R, V], the next state and attention [R, N], from the last tokens [R]."""
        logits, weights, *own = self.next(tokens, state.image, state.shared, state.parts)
        return logits, state.advance(*own), weights


def exportable_decoder(model: MultitaskModel) -> CaptionDecoder | None:
    """The model's decoder, where it has one.

    Raises:
        UserError: it is of a kind that is no function of a fixed set of tensors.
    """
    if model.decoder is not None:
        state_layout(model.config.decoder.kind)
    return model.decoder


def state_layout(kind: str) -> StateLayout:
    """The parts of the state of a kind of decoder.

    Raises:
        UserError: the kind is no function of a fixed set of tensors.
    """
    if layout := decoder_class(kind).state_layout:
        return layout
    kinds = " and ".join(name for name in plugin_names(DECODERS) if decoder_class(name).state_layout)
    raise UserError(f"model.decoder.kind is {kind}: {kinds} can be exported; choose another run")
