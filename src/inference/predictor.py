"""Photos as bytes to answers: mos and its place among the training photos, the beam's captions, where each word looked.

Page, API and benchmark share it. batch_prediction.py is for the files of a data set; this is for a person who waits.

Notation: R photos, N places of the grid, C channels, T words of a caption.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from src.common.device import best_device
from src.config.schema import GenerationConfig
from src.data import transforms
from src.data.image_io import FORMATS, ImageError, decode_image
from src.data.tokenizer import PAD, UNK
from src.inference.attention import image_attention
from src.inference.batch_prediction import (
    PredictOptions,
    check_style,
    default_style,
    extract_by_shape,
    feature_sizes,
    known_styles,
    make_extractor,
)
from src.models.generation import GeneratedCaption, StepDecoder, generate_beams
from src.models.model_folder import LoadedModel, ModelDescription, load_model_folder


@dataclass
class Limits:
    """What is taken of strangers.

    Attributes:
        megabytes: of a photo's file.
        megapixels: of a photo.
    """

    megabytes: float = 20.0
    megapixels: float = 50.0


@dataclass
class RequestOptions:
    """How photos are answered.

    Attributes:
        generation: how captions are written.
        style: of the captions; empty: the model's default.
        attention: also tell where each word looked.
    """

    generation: GenerationConfig = field(default_factory=GenerationConfig)
    style: str = ""
    attention: bool = False


@dataclass
class BeamCaption:
    """A caption of the beam.

    Attributes:
        text: as people read it.
        score: log probability over length ** length_penalty.
        words: T tokens as the vocabulary has them.
        attention: [T + 1, N] as `attention.image_attention` has it, the end token last; None where not asked for.
    """

    text: str
    score: float
    words: list[str]
    attention: np.ndarray | None = None


@dataclass
class Prediction:
    """What a model says of a photo.

    Attributes:
        mos: in the training data's units; None without that head.
        place: part of the training photos whose mos is lower, 0..1; None where the model folder does not say.
        captions: the beam's, the best first; none without a decoder.
        seconds: from bytes to answer; of photos answered together, an equal share.
        note: what was done to the photo that its owner may not expect; empty: nothing.
    """

    mos: float | None
    place: float | None
    captions: list[BeamCaption]
    seconds: float
    note: str = ""


@dataclass
class PredictionError:
    """Why a photo was not answered, on one line."""

    reason: str


class Engine(Protocol):
    """What computes a model."""

    decoder: StepDecoder | None

    def see(self, photos: list[np.ndarray]) -> tuple[Tensor | None, Tensor | None]:
        """mos [R], the mean over the photo and its mirror image, and grid [R, N, C], of photos [H, W, 3] uint8 RGB."""


class TorchEngine:
    """A model folder's network, where and in which numbers prediction computes it."""

    def __init__(self, loaded: LoadedModel) -> None:
        """A loaded model."""
        self.device = best_device()
        self.model = loaded.model.to(self.device).eval()
        self.decoder: StepDecoder | None = self.model.decoder
        wanted = feature_sizes(loaded.config, PredictOptions(loaded.config.generate))
        self.runners = {size: make_extractor(loaded, size, kinds) for size, kinds in wanted.items()}

    def see(self, photos: list[np.ndarray]) -> tuple[Tensor | None, Tensor | None]:
        """As Engine's."""
        mos: Tensor | None = None
        grid: Tensor | None = None
        for size, run in self.runners.items():
            features = extract_by_shape(run, [transforms.resize_for_task(photo, size) for photo in photos])
            if "grid" in features:
                grid = features["grid"][:, 0].to(self.device)
            if self.model.mos is not None and "levels" in features:
                levels = features["levels"].to(self.device)
                mos = self.model.mos(levels.flatten(0, 1)).view(levels.shape[:2]).mean(dim=1)
        return mos, grid


class Predictor:
    """A model that answers photos; several threads may ask it, one at a time is answered."""

    def __init__(self, about: ModelDescription, engine: Engine, limits: Limits | None = None) -> None:
        """What a model folder says, and what computes the model."""
        self.about, self.engine, self.limits = about, engine, limits or Limits()
        self.special = [PAD, UNK, *map(about.tokenizer.style, about.tokenizer.styles)]
        self.lock = Lock()  # the backbone's hooks are of one pass at a time, and two at once are no faster

    def answer(self, photos: Sequence[bytes], ask: RequestOptions) -> list[Prediction | PredictionError]:
        """An answer for each photo, or why there is none.

        Raises:
            UserError: the model knows no such style.
        """
        style = self.style(ask)
        start = time.perf_counter()
        with ThreadPoolExecutor(min(4, len(photos) or 1)) as pool:
            decoded = list(pool.map(self.decode, photos))
        pixels = [one for one in decoded if isinstance(one, np.ndarray)]
        with self.lock, torch.inference_mode():
            found = self._answer(pixels, ask, style) if pixels else []
        share = (time.perf_counter() - start) / max(1, len(pixels))
        answers = iter(found)
        return [
            self._told(next(answers), share, data) if isinstance(one, np.ndarray) else one
            for one, data in zip(decoded, photos, strict=True)
        ]

    def style(self, ask: RequestOptions) -> int:
        """The token that captions start with; 0 without a decoder."""
        if self.engine.decoder is None:
            return 0
        if ask.style:
            check_style(self.about, ask.style)
        return self.about.tokenizer.style(ask.style or default_style(self.about))

    def styles(self) -> list[str]:
        """The styles that captions can be asked for in; none without a decoder."""
        return [] if self.engine.decoder is None else known_styles(self.about)

    def decode(self, data: bytes) -> np.ndarray | PredictionError:
        """A photo's pixels [H, W, 3], or why it is none."""
        if len(data) > self.limits.megabytes * 1e6:
            return PredictionError(
                f"has {len(data) / 1e6:.0f} MB, more than {self.limits.megabytes:g}; make it smaller"
            )
        try:
            return decode_image(data, most=int(self.limits.megapixels * 1e6))
        except ImageError as error:
            return PredictionError(error.reason)

    def place(self, mos: float) -> float | None:
        """Part of the training photos with a lower mos."""
        percentiles = self.about.meta.get("mos_percentiles")
        return float(np.interp(mos, percentiles, np.linspace(0, 1, len(percentiles)))) if percentiles else None

    def _answer(
        self, photos: list[np.ndarray], ask: RequestOptions, style: int
    ) -> list[tuple[float | None, list[BeamCaption]]]:
        mos, grid = self.engine.see(photos)
        values: list[float | None] = [None] * len(photos) if mos is None else list(mos.float().tolist())
        if grid is None or self.engine.decoder is None:
            return [(value, []) for value in values]
        styles = torch.full((len(grid),), style, device=grid.device)
        beams = generate_beams(self.engine.decoder, grid, styles, ask.generation, self.special, ask.attention)
        return [(value, list(map(self._caption, beam))) for value, beam in zip(values, beams, strict=True)]

    def _caption(self, found: GeneratedCaption) -> BeamCaption:
        tokenizer = self.about.tokenizer
        looks = None if found.attention is None else image_attention(self.about, found.attention)
        return BeamCaption(tokenizer.decode(found.tokens), found.score, list(map(tokenizer.word, found.tokens)), looks)

    def _told(self, found: tuple[float | None, list[BeamCaption]], seconds: float, data: bytes) -> Prediction:
        mos, captions = found
        return Prediction(mos, None if mos is None else self.place(mos), captions, seconds, image_note(data))


def load_predictor(folder: Path, limits: Limits | None = None) -> Predictor:
    """An answerer of a model folder.

    Raises:
        UserError: it is no model folder.
    """
    loaded = load_model_folder(folder)
    return Predictor(loaded, TorchEngine(loaded), limits)


def with_beam(generation: GenerationConfig, beam: int) -> GenerationConfig:
    """The same, with a beam so wide."""
    return replace(generation, method="beam", beam=beam)


def image_note(data: bytes) -> str:
    """What was done to a photo, which can be read, before the model saw it; empty: nothing worth a word."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if getattr(image, "is_animated", False) and image.format != "MPO":
                return "an animation: only its first frame was looked at"
            if image.mode == "CMYK":
                return "in print colours (CMYK): turned into RGB, which may shift its colours"
    except Exception:  # Pillow is stricter than OpenCV, which then read it: no animation, and not in print colours
        return ""
    return ""
