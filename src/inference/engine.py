"""What computes a model: torch, or graphs of tensors such as those of onnxruntime.

Held by tests/inference/test_predictions.py and tests/inference/test_onnx_export.py.

Notation: R images, views 1 or 2 (an image and its mirror image), N places of the grid, C channels, L level statistics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from src.common.device import autocast, best_device, resolve_precision
from src.common.errors import UserError
from src.data.batch import Batch
from src.data.feature_store import FeatureKind
from src.data.tokenizer import PAD, UNK
from src.inference.feature_extractor import FeatureExtractor
from src.inference.feature_passes import FeaturePass
from src.inference.onnx_graph import NO_VIEWS, Graph, encoder_passes
from src.inference.predict_options import PredictOptions
from src.models.generation import StepDecoder
from src.models.model_folder import LoadedModel, ModelDescription
from src.models.multitask import MultitaskOutputs


class Engine(Protocol):
    """Computes a model.

    Attributes:
        device: of the model's weights.
        decoder: the caption head, or None.
        special: tokens that captions never hold.
    """

    device: torch.device
    decoder: StepDecoder | None
    special: list[int]

    def passes(self, options: PredictOptions) -> list[FeaturePass]:
        """The passes that compute the features of an image."""

    def features(self, images: Sequence[np.ndarray], item: FeaturePass) -> dict[FeatureKind, Tensor]:
        """Features of R images [H, W, 3] uint8 RGB at a pass's size: grid [R, views, N, C] and levels [R, views, L]."""

    def __call__(self, batch: Batch) -> MultitaskOutputs:
        """mos [R, views] of a batch's levels [R, views, L], and its grid [R, N, C]."""


class TorchEngine:
    """A model folder's network, on the best device, in the precision that it was trained in."""

    def __init__(self, loaded: LoadedModel) -> None:
        """Moves the model to the device."""
        self.device = best_device()
        self.config, self.model = loaded.config, loaded.model.to(self.device).eval()
        self.decoder: StepDecoder | None = self.model.decoder
        self.special = self.model.special
        self.extractors: dict[FeaturePass, FeatureExtractor] = {}

    def passes(self, options: PredictOptions) -> list[FeaturePass]:
        """As Engine's."""
        return options.passes(self.config)

    def features(self, images: Sequence[np.ndarray], item: FeaturePass) -> dict[FeatureKind, Tensor]:
        """As Engine's; {} without images."""
        if item not in self.extractors:
            self.extractors[item] = self._make_extractor(item)
        return self.extractors[item].extract(images)

    @torch.no_grad()
    def finish(self, kind: FeatureKind, stored: Tensor) -> Tensor:
        """Features [R, views, ..] of a kind from the rows of a feature store [R, views, ..]."""
        backbone = self.model.backbone
        compute = backbone.finish_levels if kind == "levels" else backbone.finish_grid
        with autocast(self.device, self.config.train.precision):
            return compute(stored.flatten(0, 1).to(self.device)).unflatten(0, stored.shape[:2])

    def __call__(self, batch: Batch) -> MultitaskOutputs:
        """As Engine's."""
        mos: Tensor | None = None
        if self.model.mos is not None and batch.mos_input is not None and batch.mos_input.features is not None:
            levels = batch.mos_input.features
            mos = self.model.mos(levels.flatten(0, 1)).view(levels.shape[:2])
        return MultitaskOutputs(mos, batch.caption_input.features if batch.caption_input is not None else None)

    def _make_extractor(self, item: FeaturePass) -> FeatureExtractor:
        """A network at an image size; in bf16 only where it was trained so, or on a cache that is."""
        data, network = self.config.data, self.model.networks[item.network]
        extractor = FeatureExtractor(network, item.kinds, item.size, data.flip and "levels" in item.kinds)
        trained = resolve_precision(self.config.train.precision, self.device)
        extractor.bf16 = extractor.bf16 and (data.cache or trained != "32")
        return extractor


class GraphEngine:
    """A model made of functions of tensors, on the CPU, image by image: compiled ones, or onnxruntime's.

    The encoders hold the mos head, so that an image's only level statistic is its mos.
    """

    device = torch.device("cpu")

    def __init__(
        self, description: ModelDescription, encoders: Mapping[int, Graph], decoder: StepDecoder | None
    ) -> None:
        """An encoder for each image size, as EncoderGraph computes, and a decoder."""
        self.encoders, self.decoder = encoders, decoder
        self.all_passes = {item.size: item for item in encoder_passes(description.config)}
        self.flip = description.config.data.flip
        tokenizer = description.tokenizer
        self.special = [PAD, UNK, *map(tokenizer.style, tokenizer.styles)]

    def passes(self, options: PredictOptions) -> list[FeaturePass]:
        """As Engine's; an encoder computes more, which `features` drops.

        Raises:
            UserError: the options have further views.
        """
        if options.views and not options.views.whole:
            raise UserError(NO_VIEWS)
        heads: dict[FeatureKind, bool] = {"levels": options.mos, "grid": options.captions}
        passes = [replace(item, kinds=tuple(k for k in item.kinds if heads[k])) for item in self.all_passes.values()]
        return [item for item in passes if item.kinds]

    def features(self, images: Sequence[np.ndarray], item: FeaturePass) -> dict[FeatureKind, Tensor]:
        """As Engine's, levels [R, views, 1]; {} without images."""
        outputs: dict[FeatureKind, list[Tensor]] = {}
        kinds = self.all_passes[item.size].kinds
        for image in images:
            values = self.encoders[item.size](image_pixels(image, self.flip and "levels" in kinds))
            for kind, value in zip(kinds, values, strict=True):
                outputs.setdefault(kind, []).append(value.unsqueeze(1) if kind == "levels" else value)
        return {kind: torch.stack(values) for kind, values in outputs.items() if kind in item.kinds}

    def __call__(self, batch: Batch) -> MultitaskOutputs:
        """As Engine's."""
        levels = batch.mos_input.features if batch.mos_input is not None else None
        grid = batch.caption_input.features if batch.caption_input is not None else None
        return MultitaskOutputs(None if levels is None else levels[..., 0], grid)


def image_pixels(image: np.ndarray, flip: bool) -> Tensor:
    """An image [H, W, 3] uint8, and its mirror image, as [views, 3, H, W] in 0..1."""
    views = [image, cv2.flip(image, 1)] if flip else [image]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float().div_(255).contiguous()
