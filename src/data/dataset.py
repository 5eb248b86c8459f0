"""Samples of one part -> Batch, from live images or from the feature store.

Notation: B images in the batch, K captions an image, T tokens a caption. Nothing here draws from a global random state:
captions, mirroring and augmentation are functions of (seed, turn, image) alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.config.plugin_keys import mos_head_class
from src.config.schema import Config
from src.data import transforms
from src.data.batch import Batch, TaskInput
from src.data.caption_weights import ngram_weights, weighted_order
from src.data.feature_store import CachedFeatures
from src.data.image_io import ImageError, load_image
from src.data.sample import Sample
from src.data.sampler import ImageDraw
from src.data.tokenizer import Tokenizer

CHUNK = 2000  # images whose captions are encoded at once: Python lists take 20 times the memory


@dataclass(frozen=True)
class InputOptions:
    """How images become inputs of the two tasks.

    Attributes:
        mos: whether there is a mos head.
        captions: whether there is a caption decoder.
        mos_size: image side for the mos head in pixels; 0: the image's own size.
        caption_size: image side for the decoder.
        training: draw captions, mirroring and augmentation anew at each turn; else an image stays as it is, with all
            its captions and its references.
        labelled: a task sees only the images that carry its label; else all.
        flip: mirror half of the images in training.
        augment: change colour, crop and sharpness of images without mos in training.
        captions_per_photo: most captions of an image in training; 0: all.
        captions_weighting: how these are drawn: uniform, or ngram (by the frequency of their n-grams).
        seed: of all random draws.
    """

    mos: bool = True
    captions: bool = True
    mos_size: int = 224
    caption_size: int = 224
    training: bool = False
    labelled: bool = False
    flip: bool = True
    augment: bool = False
    captions_per_photo: int = 5
    captions_weighting: str = "uniform"
    seed: int = 0

    @staticmethod
    def of(config: Config, training: bool = False, labelled: bool = False) -> "InputOptions":
        """The options of a config."""
        data, model = config.data, config.model
        is_fitted = not mos_head_class(model.mos.kind).trained  # to all images before training
        return InputOptions(
            mos=model.mos.enabled and not (training and is_fitted),
            captions=model.decoder.enabled,
            mos_size=data.mos_size,
            caption_size=data.caption_size,
            training=training,
            labelled=labelled,
            flip=data.flip,
            augment=data.augment_captions,
            captions_per_photo=data.captions_per_photo,
            captions_weighting=data.captions_weighting,
            seed=config.train.seed,
        )


class EncodedCaptions:
    """All captions of n images as token ids, in flat arrays: 4 bytes a token and 8 a caption.

    Attributes:
        first: [n + 1], where an image's captions begin in `start`.
        start: [m + 1], where a caption's tokens begin in `ids`.
        ids: int32.
        counts: [n], captions of each image.
        weights: [m], with which captions are drawn; None: all the same.
    """

    def __init__(
        self, samples: Sequence[Sample], tokenizer: Tokenizer, styles: np.ndarray, weighted: bool = False
    ) -> None:
        """Encodes the samples' captions, each after its image's style token; captions without a word are left out.

        `weighted`: they are drawn by the frequency of their n-grams.
        """
        counts = np.zeros(len(samples), np.int64)
        lengths, ids = [], []
        for begin in range(0, len(samples), CHUNK):
            images = [i for i in range(begin, min(begin + CHUNK, len(samples))) for _ in samples[i].captions]
            texts = [text for sample in samples[begin : begin + CHUNK] for text in sample.captions]
            encoded = tokenizer.encode_all(texts, styles[images].tolist())
            pairs = [(image, tokens) for image, tokens in zip(images, encoded, strict=True) if len(tokens) > 2]
            np.add.at(counts, [image for image, _ in pairs], 1)
            lengths.append(np.array([len(tokens) for _, tokens in pairs], np.int64))
            ids.append(np.array([token for _, tokens in pairs for token in tokens], np.int32))
        self.counts = counts
        self.first = _ends(counts)
        self.start = _ends(np.concatenate(lengths) if lengths else counts)
        self.ids = np.concatenate(ids) if ids else np.empty(0, np.int32)
        self.weights = ngram_weights(self.ids, self.start, tokenizer.first_word) if weighted else None

    def draw(self, index: np.ndarray, turn: np.ndarray, most: int, seed: int) -> np.ndarray:
        """[B, K] which captions, K at most `most`, in random order; -1 where an image has fewer."""
        rank = np.arange(self.counts[index].max(initial=0))
        noise = hash_noise(seed, turn[:, None], index[:, None], rank[None])
        if self.weights is None:
            chance = noise.astype(float)
        else:
            places = np.minimum(self.first[index][:, None] + rank, len(self.weights) - 1)
            chance = weighted_order(noise, self.weights[places])
        chance[rank >= self.counts[index][:, None]] = np.inf
        order = np.argsort(chance, axis=1, kind="stable")[:, : most or None]
        return np.where(order < self.counts[index][:, None], self.first[index][:, None] + order, -1)

    def all(self, index: np.ndarray) -> np.ndarray:
        """[B, K] all captions in their order; -1 where an image has fewer than another."""
        rank = np.arange(self.counts[index].max(initial=0))
        return np.where(rank < self.counts[index][:, None], self.first[index][:, None] + rank, -1)

    def tokens(self, chosen: np.ndarray) -> Tensor:
        """[B, K] captions to [B, max(K, 1), T] int64 ids, padded with 0; T at least 2."""
        length = np.where(chosen >= 0, self.start[chosen + 1] - self.start[chosen], 0)
        place = np.arange(max(2, length.max(initial=0)))
        inside = place < length[:, :, None]
        tokens = np.zeros((len(chosen), max(1, chosen.shape[1]), len(place)), np.int64)
        tokens[:, : chosen.shape[1]][inside] = self.ids[(self.start[chosen][:, :, None] + place)[inside]]
        return torch.from_numpy(tokens)


class ImageDataset(Dataset[Batch]):
    """Images of one part and their labels; `dataset[[draw, ..]]` is a batch."""

    def __init__(
        self,
        samples: Sequence[Sample],
        tokenizer: Tokenizer,
        styles: Sequence[str],
        options: InputOptions,
        levels: CachedFeatures | None = None,
        grids: CachedFeatures | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        """Encodes the samples' labels.

        Args:
            samples: n images.
            tokenizer: for their captions.
            styles: [n] names of caption styles.
            options: how images become inputs.
            levels: level statistics for the mos head; None: live images.
            grids: grids for the decoder; None: live images.
            weights: [n] factors on the images' losses; None: 1.
        """
        self.options = options
        self.names = [sample.name for sample in samples]
        self.paths = [sample.path for sample in samples]
        self.sources = [sample.source for sample in samples]
        self.mos = np.array([np.nan if sample.mos is None else sample.mos for sample in samples], np.float32)
        known = {style: tokenizer.style(style) for style in set(styles)}
        self.styles = np.array([known[style] for style in styles], np.int64)
        weighted = options.training and options.captions_weighting == "ngram"
        self.captions = EncodedCaptions(samples, tokenizer, self.styles, weighted)
        self.references = [] if options.training else [list(sample.captions) for sample in samples]
        self.levels, self.grids = levels, grids
        self.weights = None if weights is None else torch.tensor(weights)
        self.augment = transforms.Augment(options.caption_size) if options.augment and options.training else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, draw: ImageDraw) -> Batch:
        return self.__getitems__([draw])

    def __getitems__(self, draws: Sequence[ImageDraw]) -> Batch:
        """The batch of some images at their turns."""
        index = np.array([draw.index for draw in draws], np.int64)
        turn = np.array([draw.turn for draw in draws], np.int64)
        batch = Batch(
            names=[self.names[i] for i in index],
            sources=[self.sources[i] for i in index],
            style=torch.from_numpy(self.styles[index]),
            mos=torch.from_numpy(self.mos[index]),
            tokens=self.captions.tokens(self._choose(index, turn)),
            references=[self.references[i] for i in index] if self.references else [],
            weight=None if self.weights is None else self.weights[index],
        )
        mos_rows, caption_rows = self._rows(index)
        flip = self._flip(index, turn)
        if self.levels or self.grids:
            batch.mos_input, without_levels = _cached(self.levels, index, flip, mos_rows)
            batch.caption_input, without_grid = _cached(self.grids, index, flip, caption_rows)
            unreadable = without_levels | without_grid
        else:
            batch.mos_input, batch.caption_input, unreadable = self._live(index, turn, flip, mos_rows, caption_rows)
        batch.unreadable = sorted(unreadable)
        return batch

    def labelled(self) -> np.ndarray:
        """The images that an input of a batch may hold, int64, in order."""
        return np.union1d(*self._rows(np.arange(len(self))))

    def _choose(self, index: np.ndarray, turn: np.ndarray) -> np.ndarray:
        if self.options.training:
            return self.captions.draw(index, turn, self.options.captions_per_photo, self.options.seed)
        return self.captions.all(index)

    def _flip(self, index: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """[B] int64, 1 where the image is mirrored."""
        if not (self.options.training and self.options.flip):
            return np.zeros(len(index), np.int64)
        return (hash_noise(self.options.seed + 1, turn, index) & np.uint64(1)).astype(np.int64)

    def _rows(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a batch for the mos head and for the decoder."""
        rows = np.arange(len(index))
        rated = rows[~np.isnan(self.mos[index])] if self.options.labelled else rows
        captioned = rows[self.captions.counts[index] > 0] if self.options.labelled else rows
        return rated[: None if self.options.mos else 0], captioned[: None if self.options.captions else 0]

    def _live(
        self, index: np.ndarray, turn: np.ndarray, flip: np.ndarray, mos_rows: np.ndarray, caption_rows: np.ndarray
    ) -> tuple[TaskInput | None, TaskInput | None, set[int]]:
        """Both inputs from the images' files, and the rows of images that cannot be read."""
        mos: dict[int, np.ndarray] = {}
        captions: dict[int, np.ndarray] = {}
        unreadable: set[int] = set()
        for row in sorted({*mos_rows.tolist(), *caption_rows.tolist()}):  # one by one: whole images may be large
            try:
                image = load_image(self.paths[index[row]])
            except ImageError:
                unreadable.add(row)
                continue
            image = cv2.flip(image, 1) if flip[row] else image
            if row in mos_rows:
                mos[row] = transforms.resize_for_task(image, self.options.mos_size)
            if row in caption_rows:
                captions[row] = self._caption_pixels(image, mos.get(row), int(index[row]), int(turn[row]))
        return *_task_inputs(mos, captions), unreadable

    def _caption_pixels(self, image: np.ndarray, mos: np.ndarray | None, index: int, turn: int) -> np.ndarray:
        if self.augment and np.isnan(self.mos[index]):
            return self.augment(image, int(hash_noise(self.options.seed + 2, turn, index)[0]))
        if mos is not None and self.options.mos_size == self.options.caption_size:
            return mos
        return transforms.resize_for_task(image, self.options.caption_size)


def hash_noise(seed: int, *keys: np.ndarray | int) -> np.ndarray:
    """Random uint64 as a function of integers, broadcast against each other (SplitMix64, Steele et al. 2014)."""
    state = np.array([seed], np.int64).astype(np.uint64)
    for key in keys:
        state = state + (np.atleast_1d(key).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def _cached(
    cached: CachedFeatures | None, index: np.ndarray, flip: np.ndarray, rows: np.ndarray
) -> tuple[TaskInput | None, set[int]]:
    """The input of some rows of a batch from the feature cache, and the rows that are not in it."""
    if cached is None:
        return None, set()
    known = cached.known[index[rows]]
    stored, missing = rows[known], set(rows[~known].tolist())
    if not len(stored):
        return None, missing
    return TaskInput(torch.from_numpy(stored), features=cached.read(index[stored], flip[stored])), missing


def _task_inputs(
    mos: dict[int, np.ndarray], captions: dict[int, np.ndarray]
) -> tuple[TaskInput | None, TaskInput | None]:
    """Images by row to inputs; where both tasks see the very same images, they share the pixels."""
    first = _task_input(mos)
    if first and mos.keys() == captions.keys() and all(captions[row] is image for row, image in mos.items()):
        return first, TaskInput(first.rows, first.pixels)
    return first, _task_input(captions)


def _task_input(images: dict[int, np.ndarray]) -> TaskInput | None:
    return TaskInput(torch.tensor(list(images)), transforms.stack_images(list(images.values()))) if images else None


def _ends(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
