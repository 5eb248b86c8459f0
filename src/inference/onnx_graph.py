"""The model as functions of tensors alone, for torch.compile and ONNX. The beam stays in Python.

Held by tests/inference/test_onnx_export.py.

Notation: B images or views of them, N places of the grid, C channels, P images and R captions in work, V tokens.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.common.plugins import plugin_names
from src.config.plugin_keys import DECODERS, decoder_class
from src.config.schema import Config
from src.data.feature_store import FeatureKind
from src.inference.feature_passes import FeaturePass, feature_passes
from src.models.decoders.base import CaptionDecoder
from src.models.layers.decoder_state import DecoderState, StateLayout
from src.models.multitask import MultitaskModel

Graph = Callable[..., Sequence[Tensor]]
NO_VIEWS = "model.mos.views: an export reads whole photos of one size; set tiles 1 and scales [1.0]"


def encoder_passes(config: Config) -> list[FeaturePass]:
    """The passes of a model's encoders: one for each image size; that of mos runs all networks of the mos head.

    Raises:
        UserError: these networks read images of several sizes, or mos is predicted from several views.
    """
    if not config.model.mos.views.whole:
        raise UserError(NO_VIEWS)
    passes = feature_passes(config)
    if any(item.size != config.data.mos_size for item in passes if item.network):
        size = config.data.mos_size
        remedy = f"leave `sizes` of each entry empty, or {size} as data.mos_size, and train again"
        raise UserError(f"model.mos.backbones: an export reads one image size for mos; {remedy}")
    return [item for item in passes if not item.network]


class EncoderGraph(nn.Module):
    """Pixels [B, 3, H, W] in 0..1 to mos [B], then grid [B, N, C], as far as `kinds` has them."""

    def __init__(self, model: MultitaskModel, kinds: Sequence[FeatureKind]) -> None:
        """The backbone, and where `kinds` has levels, the mos head and its further networks."""
        super().__init__()
        self.backbone, self.mos, self.kinds = model.backbone, model.mos, set(kinds)
        self.mos_backbones = model.networks[1:] if "levels" in self.kinds else []

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """One or two outputs."""
        if self.mos is None or "levels" not in self.kinds:
            return (self.backbone.grid(pixels),)
        if "grid" not in self.kinds:
            return (self._mos(self.backbone.levels(pixels), pixels),)
        features = self.backbone(pixels)
        return self._mos(features.levels, pixels), features.grid

    def _mos(self, levels: Tensor, pixels: Tensor) -> Tensor:
        assert self.mos is not None
        return self.mos(torch.cat([levels, *(network.levels(pixels) for network in self.mos_backbones)], dim=1))


class StartGraph(nn.Module):
    """Grid [P, N, C] to the parts of a state: those that captions share, then each caption's."""

    def __init__(self, decoder: CaptionDecoder) -> None:
        """A decoder's start."""
        super().__init__()
        self.decoder = decoder

    def forward(self, grid: Tensor) -> list[Tensor]:
        """The state of one caption for each image."""
        state = self.decoder.start(grid)
        return state.shared + state.parts


class UnsharedState(DecoderState):
    """A state in which each caption has its copy of the shared parts, [R, ...]."""

    def grouped_shared(self) -> list[Tensor]:
        """As they are."""
        return self.shared


class StepGraph(nn.Module):
    """The step after one token: logits [R, V], attention [R, N], then each caption's parts of the state."""

    def __init__(self, decoder: CaptionDecoder) -> None:
        """A decoder's step."""
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor, image: Tensor, shared: list[Tensor], parts: list[Tensor]) -> list[Tensor]:
        """The last token and the image of each caption [R] int64, and the parts of their state."""
        state = UnsharedState(image, [part[image] for part in shared], parts)
        logits, after, weights = self.decoder.step(state, tokens)
        return [logits, weights, *after.parts]


class GraphDecoder:
    """A decoder for `generate` made of two functions, StartGraph's and StepGraph's, of any runtime."""

    def __init__(self, start: Graph, step: Graph, layout: StateLayout) -> None:
        """The functions, and the layout of the state between them."""
        self.start_graph, self.step_graph, self.layout = start, step, layout

    def start(self, grid: Tensor) -> DecoderState:
        """The state of one caption for each image, from grid [P, N, C]."""
        parts, shared = list(self.start_graph(grid)), self.layout.shared
        return DecoderState(torch.arange(len(grid), device=grid.device), parts[:shared], parts[shared:])

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState, Tensor]:
        """Logits [R, V], the next state and attention [R, N], from the last tokens [R]."""
        logits, weights, *parts = self.step_graph(tokens, state.image, state.shared, state.parts)
        return logits, state.advance(*parts), weights


def exportable_decoder(model: MultitaskModel) -> CaptionDecoder | None:
    """The model's decoder, or None.

    Raises:
        UserError: the decoder is of a kind that is no function of a fixed set of tensors.
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
