"""What a task sees of a photo, against sums by hand."""

import numpy as np
import pytest
import torch

from src.data import transforms


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("shape", [(448, 448), (300, 500), (50, 40), (10, 900)])
def test_captions_see_a_square(shape) -> None:
    seen = transforms.resize_for_task(noise(*shape), 224)
    assert seen.shape == (224, 224, 3)
    assert seen.dtype == np.uint8


def test_down_is_the_mean_of_areas() -> None:
    photo = noise(448, 448)
    blocks = photo.reshape(224, 2, 224, 2, 3).mean((1, 3))
    assert np.abs(transforms.resize_for_task(photo, 224) - blocks).max() <= 0.5


def test_up_is_linear() -> None:
    ramp = np.repeat(np.arange(0, 100, 10, dtype=np.uint8)[None, :, None], 10, 0).repeat(3, 2)
    seen = transforms.resize_for_task(ramp, 100)[50, :, 0].astype(int)
    centres = np.clip((np.arange(100) + 0.5) / 10 - 0.5, 0, 9) * 10
    assert np.abs(seen - centres).max() <= 1


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((512, 512), (512, 512)), ((2048, 1024), (1024, 512)), ((20, 300), (32, 300)), ((3, 4096), (32, 1024))],
)  # fmt: skip
def test_quality_sees_the_own_size_within_bounds(shape, expected) -> None:
    assert transforms.native_size(*shape) == expected
    assert transforms.resize_for_task(noise(*shape), 0).shape == (*expected, 3)


def test_own_size_leaves_pixels_alone() -> None:
    photo = noise(300, 200)
    assert np.array_equal(transforms.resize_for_task(photo, 0), photo)


def test_stack_scales_to_one_and_keeps_colours_in_order() -> None:
    photos = [noise(8, 6, seed) for seed in range(3)]
    pixels = transforms.stack_images(photos)
    assert isinstance(pixels, torch.Tensor)
    assert pixels.shape == (3, 3, 8, 6)
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels[1, 2], torch.from_numpy(photos[1][:, :, 2].astype(np.float32) / np.float32(255)))


def test_stack_of_different_sizes_is_a_list() -> None:
    pixels = transforms.stack_images([noise(8, 6), noise(9, 6)])
    assert isinstance(pixels, list)
    assert [tuple(p.shape) for p in pixels] == [(3, 8, 6), (3, 9, 6)]


def test_augmentation_is_a_function_of_its_seed() -> None:
    photo = noise(300, 400)
    augment, other = transforms.Augment(224), transforms.Augment(224)
    first = augment(photo, 2**40 + 7)
    assert first.shape == (224, 224, 3)
    changed = [augment(photo, seed) for seed in range(5)]
    assert len({image.tobytes() for image in changed}) == 5
    np.random.default_rng(1).random()
    assert np.array_equal(other(photo, 2**40 + 7), first)
