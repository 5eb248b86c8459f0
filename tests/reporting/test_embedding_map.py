"""Planes and clusters of photos: what is alike lies together."""

import numpy as np

from src.reporting.embedding_map import caption_clusters, pca_plane, tsne_plane

NOISE = np.random.default_rng(0)


def test_captions_of_the_same_words_share_a_cluster_named_by_them() -> None:
    kinds = ["a red car on a street", "two dogs run", "a street with a red car", "dogs run in snow", "", "two dogs"]
    found, names = caption_clusters(kinds, count=2)
    assert found[0] == found[2] != found[1] == found[3] == found[5]
    assert found[4] == -1
    assert "dogs" in names[found[1]]
    assert "red" in names[found[0]]
    assert caption_clusters(["a cat"] * 9)[1] == []
    assert caption_clusters(["", ""])[0].tolist() == [-1, -1]
    _, names = caption_clusters(["the photo is strong"] * 30 + ["the photo is quite strong"] * 2)
    assert sorted(names) == ["none of these words", "quite"]


def test_two_heaps_of_vectors_stay_apart() -> None:
    vectors = np.concatenate([NOISE.normal(centre, 1, (20, 30)) for centre in (0, 8)]).astype(np.float32)
    for points in (pca_plane(vectors), tsne_plane(vectors)):
        one, other = points[:20], points[20:]
        between = np.linalg.norm(one.mean(0) - other.mean(0))
        assert between > 2 * max(np.linalg.norm(heap - heap.mean(0), axis=1).mean() for heap in (one, other))
