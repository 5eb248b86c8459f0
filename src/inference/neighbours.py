"""Training images with captions, beside a model: the nearest of them tell what an image may show.

Notation: P training images with captions, C channels of the grid, R other images.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from src.common.errors import UserError
from src.common.files import atomic_write, write_text
from src.models.model_folder import check_model_file
from src.models.safetensors_file import read_safetensors

VECTORS, CAPTIONS = "neighbours.safetensors", "neighbours.json"


@dataclass(frozen=True)
class CaptionedImage:
    """A training image: the SHA-256 of its file (empty: unknown), the style of its captions, and these."""

    sha256: str
    style: str
    captions: list[str]


@dataclass
class CaptionNeighbours:
    """Training images that an image may resemble.

    Attributes:
        vectors: [P, C] float32, the mean of each one's grid over its places.
        images: P of them.
    """

    vectors: np.ndarray
    images: list[CaptionedImage]

    def save(self, folder: Path) -> None:
        """Writes both files, the vectors as float16."""
        write_text(folder / CAPTIONS, json.dumps([vars(image) for image in self.images], ensure_ascii=False))
        with atomic_write(folder / VECTORS) as part:
            save_file({"vectors": self.vectors.astype(np.float16)}, part)

    @classmethod
    def load(cls, folder: Path) -> "CaptionNeighbours":
        """Reads the files that `save` wrote.

        Raises:
            UserError: they are missing, damaged or of different data.
        """
        check_neighbours(folder)
        try:
            vectors = read_safetensors(check_model_file(folder, VECTORS))[0]["vectors"].float().numpy()
            entries = json.loads(check_model_file(folder, CAPTIONS).read_text("utf-8"))
            images = [CaptionedImage(**entry) for entry in entries]
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(f"{folder / VECTORS} or {CAPTIONS} is damaged ({error}); {remedy(folder)}") from error
        if len(vectors) != len(images):
            raise UserError(f"{folder / VECTORS} and {CAPTIONS} are of different data; {remedy(folder)}")
        return cls(vectors, images)

    def nearest(self, vectors: np.ndarray, count: int, allowed: np.ndarray) -> list[np.ndarray]:
        """The nearest training images of each image, by the cosine of vectors that are standardised per channel.

        Args:
            vectors: [R, C], made as `self.vectors`.
            count: how many; fewer where fewer are allowed.
            allowed: [R, P] bool, which training images each image may have.

        Returns:
            R arrays of places in `self.images`, in no order.
        """
        cosine = np.where(allowed, self._directions(vectors) @ self._known_directions.T, -np.inf)
        count = min(count, cosine.shape[1])
        places = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
        return [row[np.isfinite(values[row])] for row, values in zip(places, cosine, strict=True)]

    @cached_property
    def _known_directions(self) -> np.ndarray:
        return self._directions(self.vectors)

    def _directions(self, vectors: np.ndarray) -> np.ndarray:
        """Standardised vectors of length 1; a channel that is the same in all training images counts for nothing."""
        deviation = self.vectors.std(axis=0)
        values = (vectors - self.vectors.mean(axis=0)) / np.where(deviation > 0, deviation, np.inf)
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def has_neighbours(folder: Path) -> bool:
    """Whether a model folder holds the training captions that candidates are compared with."""
    return all((folder / name).is_file() for name in (VECTORS, CAPTIONS))


def check_neighbours(folder: Path) -> None:
    """Raises UserError where a model folder lacks the training captions that candidates are compared with."""
    if not has_neighbours(folder):
        raise UserError(f"generate.rerank: {folder} has no {VECTORS} and {CAPTIONS}; {remedy(folder)}")


def remedy(folder: Path) -> str:
    """The command that writes a model's neighbours."""
    return f"write them with python -m src.prepare neighbours --model {folder}"
