"""Vectors of images against scikit-learn and numpy, and their nearest neighbours against a search over all pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler, normalize

from src.config.schema import Config, DataConfig, SourceConfig
from src.data.feature_store import FeatureSpec, FeatureStore, FeatureWriter
from src.data.sample import Sample
from src.inference.image_vectors import DIMENSIONS, image_vectors, nearest_vectors, unit_vectors
from src.models.backbones.base import Backbone
from tests.tiny import tiny_config, write_photo


def store_of(folder: Path, values: np.ndarray) -> FeatureStore:
    store = FeatureStore(folder, FeatureSpec("levels", "test", 8, False))
    with store.locked(), FeatureWriter(store) as writer:
        writer.append([bytes([i // 256, i % 256] * 16) for i in range(len(values))], torch.tensor(values)[:, None])
    return store


@pytest.mark.parametrize("features", [20, DIMENSIONS + 3000])
def test_vectors_are_standardised_and_random_sums_keep_their_angles(tmp_path: Path, features: int) -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(3, 2, (700, features)) * rng.uniform(0.1, 9, features)).astype(np.float32)
    values[:, 4] = 5.0  # tells nothing
    values[1] = values[0] + rng.normal(0, 0.1, features)
    places = np.array([699, *range(690)])
    vectors = unit_vectors(store_of(tmp_path, values), places)
    expected = normalize(StandardScaler().fit_transform(values[places].astype(np.float64)))
    if features <= DIMENSIONS:
        np.testing.assert_allclose(vectors, expected, atol=1e-4)
    else:
        assert vectors.shape == (691, DIMENSIONS)
        gap = (vectors @ vectors.T - expected @ expected.T).ravel()
        assert gap.std() == pytest.approx(1 / np.sqrt(DIMENSIONS), rel=0.2)  # of unrelated vectors
        assert vectors[1] @ vectors[2] == pytest.approx(expected[1] @ expected[2], abs=0.01)


def test_nearest_vectors_are_those_of_a_search_over_all_pairs() -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(300, 32))
    vectors = normalize(centres[rng.integers(0, 300, 3000)] + rng.normal(0, 0.3, (3000, 32))).astype(np.float32)
    for count, least in ((1000, 1.0), (3000, 0.9)):
        some = vectors[:count]
        rows, cosines = nearest_vectors(some, 5)
        every = some @ some.T
        np.fill_diagonal(every, -np.inf)
        plain = np.argsort(-every, axis=1)[:, :5]
        recall = np.mean([len(set(a) & set(b)) for a, b in zip(rows.tolist(), plain.tolist(), strict=True)]) / 5
        assert recall >= least
        np.testing.assert_allclose(cosines, np.take_along_axis(every, rows, axis=1), atol=1e-5)
        assert (np.diff(cosines, axis=1) <= 0).all()
        assert all(len(set(row)) == 5 and i not in row for i, row in enumerate(rows.tolist()))


def test_few_vectors_have_few_neighbours() -> None:
    rows, cosines = nearest_vectors(np.eye(3, dtype=np.float32), 5)
    assert [sorted(row) for row in rows.tolist()] == [[-1, -1, -1, 1, 2], [-1, -1, -1, 0, 2], [-1, -1, -1, 0, 1]]
    assert np.isneginf(cosines).sum(axis=1).tolist() == [3, 3, 3]


@pytest.mark.parametrize("captions", [True, False])
def test_copies_have_one_vector_and_unreadable_images_none(elsewhere: Path, captions: bool) -> None:
    for i in range(6):
        write_photo(Path(f"{i}.jpg"), i % 4)
    Path("3.jpg").write_bytes(b"no photo")
    config: Config = tiny_config(captions=captions, sources=[SourceConfig()])
    config.data = DataConfig(caption_size=32, mos_size=32)
    samples = [Sample(Path(f"{i}.jpg"), str(i), "s") for i in range(7)]
    rows, vectors = image_vectors(config, Backbone(config.model.backbone), samples, progress=False)
    assert rows.tolist() == [0, 1, 2, 4, 5]
    same = (vectors @ vectors.T > 0.999).tolist()
    assert same == [[a % 4 == b % 4 for b in (0, 1, 2, 4, 5)] for a in (0, 1, 2, 4, 5)]
