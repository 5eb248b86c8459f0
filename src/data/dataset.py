"""Samples of one part -> Batch, from live photos or from the feature cache.

Notation: B photos in the batch, K captions a photo, T tokens a caption. Nothing here draws from a global random state:
captions, mirroring and augmentation are functions of (seed, turn, photo) alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.config.schema import Config
from src.data import transforms
from src.data.batch import Batch, TaskInput
from src.data.feature_store import FeatureStore
from src.data.image_io import ImageError, load_image
from src.data.sample import Sample
from src.data.sampler import ImageDraw
from src.data.tokenizer import Tokenizer

CHUNK = 2000  # photos whose captions are encoded at once: as Python lists they take 20 times the room


@dataclass(frozen=True)
class InputOptions:
    """How photos are seen.

    Attributes:
        quality: whether there is a mos head.
        captions: whether there is a caption decoder.
        mos_size: photo side for it in pixels; 0: the photo's own size.
        caption_size: photo side for the decoder.
        training: draw captions, mirroring and augmentation anew at each turn; else a photo is seen as it is, with all
            its captions and its references.
        labelled: a task sees only the photos that carry its label; else all.
        flip: mirror half of the photos in training.
        augment: change colour, crop and sharpness of photos without mos in training.
        captions_per_photo: most captions of a photo in training; 0: all.
        seed: of everything drawn.
    """

    quality: bool = True
    captions: bool = True
    mos_size: int = 224
    caption_size: int = 224
    training: bool = False
    labelled: bool = False
    flip: bool = True
    augment: bool = False
    captions_per_photo: int = 5
    seed: int = 0

    @staticmethod
    def of(config: Config, training: bool = False, labelled: bool = False) -> "InputOptions":
        """As a config asks for."""
        data, model = config.data, config.model
        return InputOptions(
            quality=model.mos.enabled,
            captions=model.decoder.enabled,
            mos_size=data.mos_size,
            caption_size=data.caption_size,
            training=training,
            labelled=labelled,
            flip=data.flip,
            augment=data.augment_captions,
            captions_per_photo=data.captions_per_photo,
            seed=config.train.seed,
        )


@dataclass(frozen=True)
class CachedFeatures:
    """A store and the row of each photo of a data set in it, [n] int64, -1 where it could not be read."""

    store: FeatureStore
    rows: np.ndarray


class EncodedCaptions:
    """All captions of n photos as token ids, in flat arrays: 4 bytes a token and 8 a caption.

    Attributes:
        first: [n + 1], where a photo's captions begin in `start`.
        start: [m + 1], where a caption's tokens begin in `ids`.
        ids: int32.
        counts: [n], captions of each photo.
    """

    def __init__(self, samples: Sequence[Sample], tokenizer: Tokenizer, styles: np.ndarray) -> None:
        """Encodes the samples' captions, each after its photo's style token; those without any word are left out."""
        counts = np.zeros(len(samples), np.int64)
        lengths, ids = [], []
        for begin in range(0, len(samples), CHUNK):
            photos = [i for i in range(begin, min(begin + CHUNK, len(samples))) for _ in samples[i].captions]
            texts = [text for sample in samples[begin : begin + CHUNK] for text in sample.captions]
            encoded = tokenizer.encode_all(texts, styles[photos].tolist())
            kept = [(photo, tokens) for photo, tokens in zip(photos, encoded, strict=True) if len(tokens) > 2]
            np.add.at(counts, [photo for photo, _ in kept], 1)
            lengths.append(np.array([len(tokens) for _, tokens in kept], np.int64))
            ids.append(np.array([token for _, tokens in kept for token in tokens], np.int32))
        self.counts = counts
        self.first = _ends(counts)
        self.start = _ends(np.concatenate(lengths) if lengths else counts)
        self.ids = np.concatenate(ids) if ids else np.empty(0, np.int32)

    def draw(self, index: np.ndarray, turn: np.ndarray, most: int, seed: int) -> np.ndarray:
        """[B, K] which captions, K at most `most`, in random order; -1 where a photo has fewer."""
        rank = np.arange(self.counts[index].max(initial=0))
        chance = hash_noise(seed, turn[:, None], index[:, None], rank[None]).astype(float)
        chance[rank >= self.counts[index][:, None]] = np.inf
        order = np.argsort(chance, axis=1, kind="stable")[:, : most or None]
        return np.where(order < self.counts[index][:, None], self.first[index][:, None] + order, -1)

    def all(self, index: np.ndarray) -> np.ndarray:
        """[B, K] all captions in their order; -1 where a photo has fewer than another."""
        rank = np.arange(self.counts[index].max(initial=0))
        return np.where(rank < self.counts[index][:, None], self.first[index][:, None] + rank, -1)

    def tokens(self, chosen: np.ndarray) -> Tensor:
        """[B, K] captions to [B, max(K, 1), T] int64 ids, padded with 0; T at least 2."""
        length = np.where(chosen >= 0, self.start[chosen + 1] - self.start[chosen], 0)
        place = np.arange(max(2, length.max(initial=0)))
        there = place < length[:, :, None]
        tokens = np.zeros((len(chosen), max(1, chosen.shape[1]), len(place)), np.int64)
        tokens[:, : chosen.shape[1]][there] = self.ids[(self.start[chosen][:, :, None] + place)[there]]
        return torch.from_numpy(tokens)


class ImageDataset(Dataset[Batch]):
    """Photos of one part and their labels; `photos[[draw, ..]]` is a batch."""

    def __init__(
        self,
        samples: Sequence[Sample],
        tokenizer: Tokenizer,
        styles: Sequence[str],
        look: InputOptions,
        levels: CachedFeatures | None = None,
        grids: CachedFeatures | None = None,
    ) -> None:
        """Takes what batches need out of the samples.

        Args:
            samples: n photos.
            tokenizer: for their captions.
            styles: [n] names of caption styles.
            look: how photos are seen.
            levels: level statistics for the mos head; None: live photos.
            grids: grids for the decoder; None: live photos.
        """
        self.look = look
        self.names = [sample.name for sample in samples]
        self.paths = [sample.path for sample in samples]
        self.sources = [sample.source for sample in samples]
        self.mos = np.array([np.nan if sample.mos is None else sample.mos for sample in samples], np.float32)
        known = {style: tokenizer.style(style) for style in set(styles)}
        self.styles = np.array([known[style] for style in styles], np.int64)
        self.captions = EncodedCaptions(samples, tokenizer, self.styles)
        self.references = [] if look.training else [list(sample.captions) for sample in samples]
        self.levels, self.grids = levels, grids
        self.augment = transforms.Augment(look.caption_size) if look.augment and look.training else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, draw: ImageDraw) -> Batch:
        return self.__getitems__([draw])

    def __getitems__(self, draws: Sequence[ImageDraw]) -> Batch:
        """The batch of some photos at their turns."""
        index = np.array([draw.index for draw in draws], np.int64)
        turn = np.array([draw.turn for draw in draws], np.int64)
        batch = Batch(
            names=[self.names[i] for i in index],
            sources=[self.sources[i] for i in index],
            style=torch.from_numpy(self.styles[index]),
            mos=torch.from_numpy(self.mos[index]),
            tokens=self.captions.tokens(self._choose(index, turn)),
            references=[self.references[i] for i in index] if self.references else [],
        )
        quality, captions = self._rows(index)
        flip = self._flip(index, turn)
        if self.levels or self.grids:
            batch.quality, lost = _cached(self.levels, index, flip, quality)
            batch.captioning, more = _cached(self.grids, index, flip, captions)
            lost |= more
        else:
            batch.quality, batch.captioning, lost = self._live(index, turn, flip, quality, captions)
        batch.unreadable = sorted(lost)
        return batch

    def _choose(self, index: np.ndarray, turn: np.ndarray) -> np.ndarray:
        if self.look.training:
            return self.captions.draw(index, turn, self.look.captions_per_photo, self.look.seed)
        return self.captions.all(index)

    def _flip(self, index: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """[B] int64, 1 where the photo is mirrored."""
        if not (self.look.training and self.look.flip):
            return np.zeros(len(index), np.int64)
        return (hash_noise(self.look.seed + 1, turn, index) & np.uint64(1)).astype(np.int64)

    def _rows(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a batch that the mos head and the decoder are to see."""
        every, none = np.arange(len(index)), np.arange(0)
        quality, captions = every, every
        if self.look.labelled:
            quality = every[~np.isnan(self.mos[index])]
            captions = every[self.captions.counts[index] > 0]
        return quality if self.look.quality else none, captions if self.look.captions else none

    def _live(
        self, index: np.ndarray, turn: np.ndarray, flip: np.ndarray, quality: np.ndarray, captions: np.ndarray
    ) -> tuple[TaskInput | None, TaskInput | None, set[int]]:
        """Both views from the photos' files, and the rows of those that cannot be read."""
        seen: tuple[dict[int, np.ndarray], dict[int, np.ndarray]] = ({}, {})
        lost: set[int] = set()
        wanted = set(quality.tolist()), set(captions.tolist())
        for row in sorted(wanted[0] | wanted[1]):  # one after the other: whole photos may be large
            try:
                photo = load_image(self.paths[index[row]])
            except ImageError:
                lost.add(row)
                continue
            photo = cv2.flip(photo, 1) if flip[row] else photo
            if row in wanted[0]:
                seen[0][row] = transforms.resize_for_task(photo, self.look.mos_size)
            if row in wanted[1]:
                seen[1][row] = self._caption_view(photo, seen[0].get(row), int(index[row]), int(turn[row]))
        return *_views(*seen), lost

    def _caption_view(self, photo: np.ndarray, quality: np.ndarray | None, index: int, turn: int) -> np.ndarray:
        if self.augment and np.isnan(self.mos[index]):
            return self.augment(photo, int(hash_noise(self.look.seed + 2, turn, index)[0]))
        if quality is not None and self.look.mos_size == self.look.caption_size:
            return quality
        return transforms.resize_for_task(photo, self.look.caption_size)


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
    """The view of some rows of a batch from a store, and those rows that are not in it."""
    if cached is None:
        return None, set()
    at = cached.rows[index[rows]]
    there, lost = rows[at >= 0], set(rows[at < 0].tolist())
    if not len(there):
        return None, lost
    return TaskInput(torch.from_numpy(there), features=cached.store.read(at[at >= 0], flip[there])), lost


def _views(
    quality: dict[int, np.ndarray], captions: dict[int, np.ndarray]
) -> tuple[TaskInput | None, TaskInput | None]:
    """Photos by row to views; where both tasks see the very same photos, they share the pixels."""
    same = quality.keys() == captions.keys() and all(captions[row] is photo for row, photo in quality.items())
    first = _view(quality)
    if same and first:
        return first, TaskInput(first.rows, first.pixels)
    return first, _view(captions)


def _view(photos: dict[int, np.ndarray]) -> TaskInput | None:
    return TaskInput(torch.tensor(list(photos)), transforms.stack_images(list(photos.values()))) if photos else None


def _ends(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
