"""Photos to what a task sees of them: resizing, and augmentation for captions."""

import math
import warnings

import cv2
import numpy as np
import torch
from torch import Tensor

from src.common.errors import UserError

LONGEST, SHORTEST = 1024, 32  # pixels of a photo seen at its own size: memory, and what a network's strides need
RECIPE = "square or own size, area down, linear up, 2"  # part of the feature cache's key: change it with `view`


def resize_for_task(photo: np.ndarray, size: int) -> np.ndarray:
    """The photo at a task's size, without augmentation.

    Args:
        photo: [H, W, 3] uint8 RGB.
        size: side of a square, or 0 for the photo's own size, its longer side at most 1,024, its shorter at least 32.

    Returns:
        [size, size, 3], or [h, w, 3] in the photo's own shape; uint8.
    """
    return resize(photo, size, size) if size else resize(photo, *native_size(*photo.shape[:2]))


def native_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a photo seen at its own size."""
    scale = min(1.0, LONGEST / max(height, width))
    return max(SHORTEST, round(height * scale)), max(SHORTEST, round(width * scale))


def resize(photo: np.ndarray, height: int, width: int) -> np.ndarray:
    """Averages areas on the way down, so that detail does not alias; interpolates linearly on the way up."""
    old = photo.shape[0] * photo.shape[1]
    if photo.shape[:2] == (height, width):
        return photo
    method = cv2.INTER_AREA if height * width < old else cv2.INTER_LINEAR
    return cv2.resize(photo, (width, height), interpolation=method)


def cut_tiles(photo: np.ndarray, tiles: int, overlap: float) -> list[np.ndarray]:
    """A photo [H, W, 3] and, with tiles above 1, its tiles, row by row.

    Args:
        photo: the photo.
        tiles: rows and columns of the grid.
        overlap: part of a tile's side that the next tile shares; sides are rounded up.

    Raises:
        UserError: a tile has a side of less than 32 pixels.
    """
    if tiles == 1:
        return [photo]
    sides = [math.ceil(length / (tiles - (tiles - 1) * overlap)) for length in photo.shape[:2]]
    if min(sides) < SHORTEST:
        raise UserError(f"views.tiles: each of {tiles} tiles in a row has only {min(sides)} pixels; give fewer")
    starts = [
        [round(i * (length - side) / (tiles - 1)) for i in range(tiles)]
        for length, side in zip(photo.shape[:2], sides, strict=True)
    ]
    return [photo, *(photo[y : y + sides[0], x : x + sides[1]] for y in starts[0] for x in starts[1])]


class Augment:
    """Colour, crop and blur, for photos that carry no mos: all of these change a photo's quality."""

    def __init__(self, size: int) -> None:
        import albumentations as A  # a second, which commands that predict do without

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # albumentations warns that nobody maintains it
            self.compose = A.Compose(
                [
                    A.RandomResizedCrop(
                        (size, size), scale=(0.6, 1.0), ratio=(0.8, 1.25), interpolation=cv2.INTER_AREA
                    ),
                    A.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.03, p=0.8),
                    A.GaussianBlur(blur_limit=(3, 5), p=0.1),
                ]
            )

    def __call__(self, photo: np.ndarray, seed: int) -> np.ndarray:
        """[H, W, 3] uint8 to [size, size, 3] uint8: the same for the same seed, whatever was done before."""
        self.compose.set_random_seed(seed % 2**32)
        return self.compose(image=photo)["image"]


def stack_images(photos: list[np.ndarray]) -> Tensor | list[Tensor]:
    """[H, W, 3] uint8 photos to [R, 3, H, W] float in 0..1, channels last in memory; a list where sizes differ."""
    if len({photo.shape for photo in photos}) > 1:
        return [_scaled([photo])[0] for photo in photos]
    return _scaled(photos)


def _scaled(photos: list[np.ndarray]) -> Tensor:
    # numpy's buffer, since numpy asks for huge pages: filling torch's own takes 4 times as long, in page faults.
    pixels = torch.from_numpy(np.empty((len(photos), *photos[0].shape), np.float32))
    for target, photo in zip(pixels, photos, strict=True):
        target.copy_(torch.from_numpy(photo)).div_(255)
    return pixels.permute(0, 3, 1, 2)
