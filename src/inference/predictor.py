"""The one way from images to predictions: files of any number in batches, or bytes for a person who waits.

Notation: N places of the grid, T words of a caption.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from src.common.errors import UserError
from src.common.progress import progress_bar
from src.config.schema import GenerationConfig
from src.data.batch import Batch
from src.data.image_io import FORMATS, ImageError, decode_image
from src.data.sample import Sample
from src.inference.attention import image_attention
from src.inference.caption_style import known_styles, style_token
from src.inference.engine import Engine, TorchEngine
from src.inference.image_features import (
    FeatureBatch,
    ImageViews,
    cached_features,
    extract_features,
    live_features,
    make_batch,
    resize_views,
)
from src.inference.neighbours import CaptionNeighbours, check_neighbours
from src.inference.predict_options import PredictOptions
from src.inference.predictions import Predictions, image_mos, predict_batch
from src.inference.reranking import CaptionReranker, RerankImages, rank_candidates
from src.models.beam_search import GeneratedCaption
from src.models.generation import StepDecoder, generate, generate_beams, generate_candidates
from src.models.model_folder import LoadedModel, ModelDescription, load_model_folder


@dataclass
class ImageLimits:
    """Limits of an image that is given as bytes.

    Attributes:
        megabytes: of the file.
        megapixels: of the image.
    """

    megabytes: float = 20.0
    megapixels: float = 50.0


@dataclass
class BeamCaption:
    """A caption of the beam.

    Attributes:
        text: as people read it.
        score: log probability over length ** length_penalty.
        words: T tokens as the vocabulary has them.
        attention: [T + 1, N] as `image_attention` gives it, the end token last; None without PredictOptions.attention.
    """

    text: str
    score: float
    words: list[str]
    attention: np.ndarray | None = None


@dataclass
class Prediction:
    """A model's prediction for an image given as bytes.

    Attributes:
        mos: in the training data's units; None without that head.
        place: part of the training images whose mos is lower, 0..1; None where the model folder does not say.
        captions: the beam's, the best first, or with generate.rerank as many candidates; none without a decoder.
        seconds: from bytes to prediction; of images in one batch, an equal share.
        note: a change of the image that its owner may not expect; empty: none.
    """

    mos: float | None
    place: float | None
    captions: list[BeamCaption]
    seconds: float
    note: str = ""


@dataclass
class PredictionError:
    """Why there is no prediction for an image, on one line."""

    reason: str


class Predictor:
    """A model that predicts images. Several threads may call `predict_bytes`; one at a time computes.

    Attributes:
        description: the model folder's content, without the weights.
        engine: computes the model.
        limits: of images given as bytes.
    """

    def __init__(self, description: ModelDescription, engine: Engine, limits: ImageLimits | None = None) -> None:
        self.description, self.engine, self.limits = description, engine, limits or ImageLimits()
        self.lock = Lock()  # the backbone's hooks are of one pass at a time, and two at once are no faster

    @classmethod
    def of_model(cls, loaded: LoadedModel, limits: ImageLimits | None = None) -> "Predictor":
        """A predictor of a loaded model, computed by torch on the best device."""
        return cls(loaded, TorchEngine(loaded), limits)

    @cached_property
    def reranker(self) -> CaptionReranker:
        """Chooses captions by the model folder's training captions.

        Raises:
            UserError: the folder lacks them.
        """
        return CaptionReranker(CaptionNeighbours.load(self.description.folder), self.description.tokenizer)

    @classmethod
    def load(cls, folder: Path, limits: ImageLimits | None = None) -> "Predictor":
        """A predictor of a model folder.

        Raises:
            UserError: it is no model folder.
        """
        return cls.of_model(load_model_folder(folder), limits)

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample], options: PredictOptions) -> tuple[Predictions, dict[str, str]]:
        """mos (with config.data.flip, the mean over an image and its mirror image) and captions, in the samples' order.

        Returns:
            The predictions; mos is NaN or the caption empty where the model has no such head or the image could not be
            read. By name, why images could not be read.

        Raises:
            UserError: the model knows no style of that name.
        """
        parts: list[Predictions] = []
        failed: dict[str, str] = {}
        with progress_bar(len(samples), "predicting", show=options.progress) as bar:
            for features in self.feature_batches(samples, options):
                parts.append(self.predict_features(features, options))
                failed |= features.reasons()
                bar.update(len(features.samples))
        return Predictions.join(parts), failed

    def feature_batches(self, samples: Sequence[Sample], options: PredictOptions) -> Iterator[FeatureBatch]:
        """Batches of files, in their order, as the features that the model's heads read.

        Raises:
            UserError: options.cache, and the engine has no backbone whose features could be stored.
        """
        config = self.description.config
        if not (options.cache and options.mos_views(config).whole):
            return live_features(self.engine, samples, options)
        if not isinstance(self.engine, TorchEngine):
            raise UserError("an export keeps no feature cache: predict without it")
        return cached_features(self.engine, config, samples, options)

    def predict_features(self, features: FeatureBatch, options: PredictOptions) -> Predictions:
        """Predictions for a batch of features."""
        batch = make_batch(self.description, features, options).to(self.engine.device)

        def write(grid: Tensor, batch: Batch) -> list[GeneratedCaption]:
            return self.write_captions(grid, batch, features, options)

        predictions = predict_batch(self.engine, batch, options.generation, self.description.tokenizer, write)
        # As written, not rounded to float32.
        predictions.mos_true = [math.nan if sample.mos is None else sample.mos for sample in features.samples]
        return predictions

    def write_captions(
        self, grid: Tensor, batch: Batch, features: FeatureBatch, options: PredictOptions
    ) -> list[GeneratedCaption]:
        """The caption of each image that the batch's caption input holds, from its grid [R, N, C]."""
        if options.generation.rerank.enabled:
            return [captions[0] for captions in self.rank_captions(grid, batch, features, options)]
        return generate(*self._generation_inputs(grid, batch, options))

    def rank_captions(
        self, grid: Tensor, batch: Batch, features: FeatureBatch, options: PredictOptions
    ) -> list[list[GeneratedCaption]]:
        """Captions of each image, the best first: the beam, or with generate.rerank the distinct candidates."""
        inputs = self._generation_inputs(grid, batch, options)
        if not options.generation.rerank.enabled:
            return generate_beams(*inputs)
        candidates, texts = self.candidates(grid, batch, options)
        rewards = self.candidate_rewards(texts, grid, batch, features, options)
        ranking = map(rank_candidates, texts, rewards)
        return [[captions[i] for i in order] for captions, order in zip(candidates, ranking, strict=True)]

    def candidates(
        self, grid: Tensor, batch: Batch, options: PredictOptions
    ) -> tuple[list[list[GeneratedCaption]], list[list[str]]]:
        """The candidates of each image that the batch's caption input holds, and their texts; grid [R, N, C]."""
        candidates = generate_candidates(*self._generation_inputs(grid, batch, options))
        decode = self.description.tokenizer.decode
        return candidates, [[decode(caption.tokens) for caption in captions] for captions in candidates]

    def candidate_rewards(
        self,
        texts: Sequence[Sequence[str]],
        grid: Tensor,
        batch: Batch,
        features: FeatureBatch,
        options: PredictOptions,
    ) -> list[np.ndarray]:
        """The expected reward of each candidate, of this model or of others, from the images' grid [R, N, C]."""
        assert batch.caption_input is not None
        styles = batch.style[batch.caption_input.rows].cpu().numpy()
        images = RerankImages(grid.float().mean(1).cpu().numpy(), styles, features.grid_hashes())
        return self.reranker.rewards(texts, images, options.generation.rerank)

    def _generation_inputs(
        self, grid: Tensor, batch: Batch, options: PredictOptions
    ) -> tuple[StepDecoder, Tensor, Tensor, GenerationConfig, list[int], bool]:
        """The arguments of `generate` and its like."""
        assert self.engine.decoder is not None
        assert batch.caption_input is not None
        style = batch.style[batch.caption_input.rows]
        return self.engine.decoder, grid, style, options.generation, self.engine.special, options.attention

    def predict_bytes(self, images: Sequence[bytes], options: PredictOptions) -> list[Prediction | PredictionError]:
        """A prediction with the whole beam for each image, or why there is none.

        Raises:
            UserError: the model knows no such style.
        """
        self.check_captions(options)
        start = time.perf_counter()
        sizes = {item.size for item in self.engine.passes(options)}
        with ThreadPoolExecutor(min(4, len(images) or 1)) as pool:
            views = list(pool.map(lambda data: self._decode(data, sizes), images))
        samples = [Sample(Path(), "", "") for _ in images]
        with self.lock, torch.inference_mode():
            features = extract_features(self.engine, samples, views, options)
            features.hashes = [sha256(data).hexdigest() for data in images]
            mos, beams = self.mos_and_beams(features, options)
        seconds = (time.perf_counter() - start) / max(1, len(images) - len(features.failed))
        return [
            PredictionError(features.failed[i])
            if i in features.failed
            else Prediction(mos.get(i), self.place(mos.get(i)), beams.get(i, []), seconds, image_note(data))
            for i, data in enumerate(images)
        ]

    def check_captions(self, options: PredictOptions) -> None:
        """Raises UserError where captions cannot be written as the options say.

        The model does not know the style or has none by default, or its folder lacks the captions to choose by.
        """
        if self.engine.decoder is not None:
            style_token(self.description, options.style)
            if options.generation.rerank.enabled:
                check_neighbours(self.description.folder)

    def styles(self) -> list[str]:
        """The styles that captions can be written in; none without a decoder."""
        return [] if self.engine.decoder is None else known_styles(self.description)

    def place(self, mos: float | None) -> float | None:
        """Part of the training images with a lower mos; None without mos or the model folder's percentiles."""
        percentiles = self.description.meta.get("mos_percentiles")
        if mos is None or not percentiles:
            return None
        return float(np.interp(mos, percentiles, np.linspace(0, 1, len(percentiles))))

    def _decode(self, data: bytes, sizes: Iterable[int]) -> ImageViews | str:
        """An image at each of the sizes, or why it cannot be read."""
        if len(data) > self.limits.megabytes * 1e6:
            return f"has {len(data) / 1e6:.0f} MB, more than {self.limits.megabytes:g}; make it smaller"
        try:
            return resize_views(decode_image(data, most=int(self.limits.megapixels * 1e6)), sizes)
        except ImageError as error:
            return error.reason

    def mos_and_beams(
        self, features: FeatureBatch, options: PredictOptions
    ) -> tuple[dict[int, float], dict[int, list[BeamCaption]]]:
        """mos and the beam's captions of a batch's images, by row; without those that the model does not predict."""
        batch = make_batch(self.description, features, options).to(self.engine.device)
        outputs = self.engine(batch)
        mos = image_mos(outputs, batch).tolist()
        beams: dict[int, list[BeamCaption]] = {}
        task = batch.caption_input
        if self.engine.decoder is not None and task is not None and outputs.grid is not None:
            pairs = zip(task.rows.tolist(), self.rank_captions(outputs.grid, batch, features, options), strict=True)
            width = options.generation.beam
            beams = {row: [self._caption(caption) for caption in captions[:width]] for row, captions in pairs}
        return {i: mos[i] for i in features.rows.get("levels", [])}, beams

    def _caption(self, generated: GeneratedCaption) -> BeamCaption:
        tokenizer = self.description.tokenizer
        words = list(map(tokenizer.word, generated.tokens))
        attention = None if generated.attention is None else image_attention(self.description, generated.attention)
        return BeamCaption(tokenizer.decode(generated.tokens), generated.score, words, attention)


def compare_with_training(place: float | None, meta: Mapping[str, Any]) -> str:
    """Where a mos lies among the training images, in words; empty where the model folder does not say.

    Args:
        place: part of the training images with a lower mos, or None.
        meta: the model folder's, with mos_mean.
    """
    if place is not None:
        return f"above {100 * place:.0f} % of the training photos"
    return f"mean of the training photos: {meta['mos_mean']:.2f}" if meta.get("mos_mean") is not None else ""


def image_note(data: bytes) -> str:
    """A change that an image, which can be read, went through before prediction; empty: none worth a word."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if getattr(image, "is_animated", False) and image.format != "MPO":
                return "an animation: only its first frame was looked at"
            if image.mode == "CMYK":
                return "in print colours (CMYK): turned into RGB, which may shift its colours"
    except Exception:  # Pillow is stricter than OpenCV, which then read it: no animation, and not in print colours
        return ""
    return ""
