"""Nearest training images against a plain search, and files that are missing or damaged."""

from pathlib import Path

import numpy as np
import pytest

from src.common.errors import UserError
from src.inference.neighbours import CAPTIONS, VECTORS, CaptionedImage, CaptionNeighbours


@pytest.fixture
def neighbours() -> CaptionNeighbours:
    vectors = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32) * np.arange(6)  # a constant channel
    return CaptionNeighbours(vectors, [CaptionedImage(f"{i:064x}", "challenge", [f"photo {i}"]) for i in range(30)])


def test_the_nearest_by_the_cosine_of_standardised_vectors(neighbours: CaptionNeighbours) -> None:
    vectors = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32) * 3
    allowed = np.random.default_rng(2).random((4, 30)) < 0.5
    known = neighbours.vectors[:, 1:]
    mean, deviation = known.mean(0), known.std(0)
    for vector, mask, rows in zip(vectors, allowed, neighbours.nearest(vectors, 5, allowed), strict=True):
        a, b = (vector[1:] - mean) / deviation, (known - mean) / deviation
        cosine = b @ a / np.linalg.norm(a) / np.linalg.norm(b, axis=1)
        expected = [i for i in np.argsort(-cosine) if mask[i]][:5]
        assert sorted(rows.tolist()) == sorted(expected)


def test_fewer_where_fewer_are_allowed(neighbours: CaptionNeighbours) -> None:
    allowed = np.zeros((2, 30), dtype=bool)
    allowed[0, [3, 7]] = True
    first, second = neighbours.nearest(neighbours.vectors[:2], 60, allowed)
    assert sorted(first.tolist()) == [3, 7]
    assert not len(second)


def test_files_come_back(neighbours: CaptionNeighbours, tmp_path: Path) -> None:
    neighbours.save(tmp_path)
    loaded = CaptionNeighbours.load(tmp_path)
    assert loaded.images == neighbours.images
    np.testing.assert_allclose(loaded.vectors, neighbours.vectors, rtol=1e-3)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (VECTORS, b"no tensors", "is damaged"),
        (CAPTIONS, b"{", "is damaged"),
        (CAPTIONS, b'[{"name": 1}]', "is damaged"),
        (CAPTIONS, b"[]", "are of different data"),
        (VECTORS, None, "has no neighbours.safetensors"),
    ],
)
def test_bad_files_are_named_with_the_remedy(
    neighbours: CaptionNeighbours, tmp_path: Path, file: str, content: bytes | None, message: str
) -> None:
    neighbours.save(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=f"{message}.*prepare neighbours --model {tmp_path}") as error:
        CaptionNeighbours.load(tmp_path)
    assert "\n" not in str(error.value)
