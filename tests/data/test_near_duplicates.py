"""Near-duplicates against a plain search over all pairs, and on one side of a split."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from src.config.schema import DataConfig
from src.data.image_hashes import hash_images
from src.data.near_duplicates import LIMIT, near_components, near_duplicate_labels
from src.data.sample import Sample
from src.data.split import split_images
from tests.tiny import write_photo


def test_banding_joins_the_pairs_of_a_plain_search() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**63, 300, dtype=np.uint64)
    flips = rng.integers(0, 64, (100, 5))
    counts = rng.integers(1, 6, 100)
    near = [int(values[i]) ^ sum({1 << int(bit) for bit in flips[i, : counts[i]]}) for i in range(100)]
    values = np.concatenate([values, np.array(near, dtype=np.uint64)])
    joined = np.bitwise_count(values[:, None] ^ values[None]) <= LIMIT
    plain = connected_components(joined, directed=False)[1]
    assert 350 > len(set(plain)) > 300
    assert (near_components(values)[:, None] == near_components(values)).tolist() == (plain[:, None] == plain).tolist()


def test_copies_in_other_sizes_and_qualities_are_on_one_side(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(30):
        write_photo(Path(f"{i:02}.jpg"), i, 200)
        image = cv2.imread(f"{i:02}.jpg")
        cv2.imwrite(f"{i:02}_small.jpg", cv2.resize(image, (90, 70), interpolation=cv2.INTER_AREA))
        cv2.imwrite(f"{i:02}_poor.webp", image, [cv2.IMWRITE_WEBP_QUALITY, 30])
    for i in range(3):
        cv2.imwrite(f"flat{i}.png", np.full((50, 50 + i, 3), 100 * i, np.uint8))
    Path("broken.jpg").write_bytes(b"no photo")
    paths = sorted(path for path in Path().iterdir() if path.is_file())
    labels = near_duplicate_labels(paths, hash_images(paths, Path("cache")), Path("cache"))
    names: dict[str | None, set[str]] = {}
    for path, label in zip(paths, labels, strict=True):
        names.setdefault(label, set()).add(path.name[:2] if path.name[0].isdigit() else path.name)
    assert sorted(map(sorted, names.values())) == sorted(
        [[f"{i:02}"] for i in range(30)] + [[name] for name in ("broken.jpg", "flat0.png", "flat1.png", "flat2.png")]
    )
    samples = [Sample(path, path.name, "s", float(i % 7), ()) for i, path in enumerate(paths)]
    sides = []
    for near in (True, False):
        config = DataConfig(val=0.4, split_dir="cache", near_duplicates=near)
        parts = split_images(samples, config, {})
        sides.append(
            max(len({parts["s", path.name] for path in paths if path.name.startswith(f"{i:02}")}) for i in range(30))
        )
    assert sides == [1, 2]
    monkeypatch.setattr("src.data.near_duplicates.load_image", None)  # a second call decodes nothing
    assert near_duplicate_labels(paths, hash_images(paths, Path("cache")), Path("cache")) == labels
