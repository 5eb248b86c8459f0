"""The feature cache: what is read back is what the backbone gives, however the writing was cut short."""

import hashlib
import os
import pickle
import signal
import time
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue as Queue
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.data import transforms
from src.data.feature_store import FeatureSpec, FeatureStore, FeatureWriter
from src.data.image_io import load_image
from src.inference import feature_extractor as cache
from src.inference.feature_extractor import CacheRequest, FeatureExtractor, batches_by_shape, fill_feature_stores


class Tiny(nn.Module):
    """The backbone's interface on one convolution: grid [B, 4, 6], levels [B, 12]."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv2d(3, 6, 3, padding=1)
        self.seen = 0

    def fingerprint(self, kind: str = "grid") -> str:
        return hashlib.sha256(self.layer.weight.detach().numpy().tobytes()).hexdigest()

    def stored_kind(self, kind: str) -> str:
        return kind

    def finish_levels(self, features: Tensor) -> Tensor:
        return features

    def grid(self, pixels: Tensor | list[Tensor]) -> Tensor:
        return self(pixels).grid

    def levels(self, pixels: Tensor | list[Tensor]) -> Tensor:
        return self(pixels).levels

    def forward(self, pixels: Tensor | list[Tensor]) -> SimpleNamespace:
        if isinstance(pixels, list):
            each = [self(photo[None]) for photo in pixels]
            return SimpleNamespace(grid=torch.cat([f.grid for f in each]), levels=torch.cat([f.levels for f in each]))
        self.seen += len(pixels)
        maps = self.layer(pixels).float()
        grid = nn.functional.adaptive_avg_pool2d(maps, 2).flatten(2).transpose(1, 2)
        return SimpleNamespace(grid=grid, levels=torch.cat([maps.mean((2, 3)), maps.std((2, 3))], 1))


def write_photos(folder: Path, sizes: list[tuple[int, int]]) -> dict[str, Path]:
    """JPEG files of noise, by the SHA-256 of their bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    photos = {}
    for i, (height, width) in enumerate(sizes):
        path = folder / f"{i}.jpg"
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (width, height)))
        photos[hashlib.sha256(path.read_bytes()).hexdigest()] = path
    return photos


def recipe(kind: str, backbone: Tiny, size: int = 32, flip: bool = True) -> FeatureSpec:
    return FeatureSpec(kind, backbone.fingerprint(), size, flip)


def direct(backbone: Tiny, path: Path, size: int, kind: str, mirrored: bool) -> Tensor:
    photo = transforms.resize_for_task(load_image(path), size)
    pixels = torch.from_numpy(photo.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        return getattr(backbone(pixels.flip(3) if mirrored else pixels), kind)[0]


@pytest.mark.parametrize("size", [32, 0])
def test_rows_are_what_the_backbone_gives(tmp_path, size) -> None:
    backbone = Tiny()
    photos = write_photos(tmp_path / "photos", [(40, 50)] * 5 + [(50, 40), (64, 64)] * 3 + [(10, 20)])
    stores = {kind: FeatureStore(tmp_path / "cache", recipe(kind, backbone, size)) for kind in ("grid", "levels")}
    built = fill_feature_stores(backbone, [CacheRequest(store, photos) for store in stores.values()], progress=False)
    assert built.photos == len(photos)
    assert backbone.seen == 2 * len(photos)  # once for both stores
    assert not built.failed
    for kind, store in stores.items():
        hashes = list(photos)[::-1]
        rows = store.rows(hashes)
        for view in (0, 1):
            features = store.read(rows, np.full(len(rows), view))
            assert features.dtype == (torch.bfloat16 if kind == "grid" else torch.float32)
            expected = torch.stack([direct(backbone, photos[digest], size, kind, view == 1) for digest in hashes])
            torch.testing.assert_close(features.float(), expected, rtol=0.01, atol=0.01)


def test_views_may_differ_by_row(tmp_path) -> None:
    backbone = Tiny()
    photos = write_photos(tmp_path, [(32, 32)] * 4)
    store = FeatureStore(tmp_path, recipe("levels", backbone))
    fill_feature_stores(backbone, [CacheRequest(store, photos)], progress=False)
    rows = store.rows(list(photos))
    both = [store.read(rows), store.read(rows, np.ones(4, np.int64))]
    mixed = store.read(rows, np.array([0, 1, 1, 0]))
    assert torch.equal(mixed, torch.stack([both[0][0], both[1][1], both[1][2], both[0][3]]))
    with pytest.raises(IndexError):
        store.read(np.array([-1]))


def test_only_what_is_missing_is_computed(tmp_path) -> None:
    backbone = Tiny()
    photos = write_photos(tmp_path, [(32, 32)] * 6)
    half = dict(list(photos.items())[:3])
    store = FeatureStore(tmp_path, recipe("grid", backbone))
    fill_feature_stores(backbone, [CacheRequest(store, half)], progress=False)
    before = store.read(store.rows(list(half)))
    assert fill_feature_stores(backbone, [CacheRequest(store, photos)], progress=False).photos == 3
    assert fill_feature_stores(backbone, [CacheRequest(store, photos)], progress=False).photos == 0
    assert torch.equal(store.read(store.rows(list(half))), before)
    assert (store.rows(list(photos)) == np.arange(6)).all()
    assert store.rows(["00" * 32]).tolist() == [-1]


def test_each_recipe_has_its_own_store() -> None:
    one, other = Tiny(0), Tiny(1)
    recipes = [recipe("grid", one), recipe("grid", other), recipe("levels", one), recipe("grid", one, 64)]
    recipes += [recipe("grid", one, flip=False), FeatureSpec("grid", one.fingerprint(), 32, True, "another transform")]
    assert len({r.key() for r in recipes}) == len(recipes)
    assert recipe("grid", Tiny(0)).key() == recipes[0].key()


def test_unreadable_photos_are_skipped_and_named(tmp_path) -> None:
    photos = write_photos(tmp_path, [(32, 32)] * 3)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(next(iter(photos.values())).read_bytes()[:300])
    digest = hashlib.sha256(broken.read_bytes()).hexdigest()
    backbone = Tiny()
    store = FeatureStore(tmp_path, recipe("grid", backbone))
    built = fill_feature_stores(
        backbone, [CacheRequest(store, {digest: broken, "11" * 32: tmp_path / "gone.jpg", **photos})], progress=False
    )
    assert set(built.failed) == {broken, tmp_path / "gone.jpg"}
    assert built.photos == 3
    assert store.rows([digest, *photos]).tolist() == [-1, 0, 1, 2]


@pytest.mark.parametrize("cut", [0, 1, 31, 33, 64, 95])
@pytest.mark.parametrize("torn", ["index.bin", "features.bin"])
def test_goes_on_from_any_byte(tmp_path, cut, torn) -> None:
    backbone = Tiny()
    photos = write_photos(tmp_path, [(32, 32)] * 5)
    whole = FeatureStore(tmp_path / "whole", recipe("levels", backbone))
    store = FeatureStore(tmp_path / "torn", recipe("levels", backbone))
    for target in (whole, store):
        fill_feature_stores(backbone, [CacheRequest(target, photos)], progress=False)
    path = store.folder / torn
    os.truncate(path, path.stat().st_size - cut)
    again = FeatureStore(tmp_path / "torn", recipe("levels", backbone))
    fill_feature_stores(backbone, [CacheRequest(again, photos)], progress=False)
    for name in ("index.bin", "features.bin"):
        assert (again.folder / name).stat().st_size == (whole.folder / name).stat().st_size
    rows, expected = again.rows(list(photos)), whole.rows(list(photos))
    assert torch.equal(again.read(rows), whole.read(expected))


def test_a_tail_that_no_index_names_is_cut_off(tmp_path) -> None:
    store = FeatureStore(tmp_path, FeatureSpec("levels", "x", 32, False))
    store.folder.mkdir()
    digests = [bytes([i]) * 32 for i in range(3)]
    with FeatureWriter(store) as writer:
        writer.append(digests[:2], torch.ones(2, 1, 5))
    with (store.folder / "features.bin").open("ab") as file:
        file.write(b"torn")
    with FeatureWriter(store) as writer:
        writer.append(digests[2:], torch.full((1, 1, 5), 3.0))
    assert store.read(store.rows([d.hex() for d in digests])).tolist() == [[1.0] * 5, [1.0] * 5, [3.0] * 5]


def slow_build(folder: Path, name: str, pause: float, said: Queue) -> None:
    """Builds 48 photos in three batches, in a process of its own."""
    torch.set_num_threads(1)
    cache.COMMIT_SECONDS = 0.0
    backbone = Tiny()

    def wait(*_: object) -> None:
        said.put("batch")
        time.sleep(pause)

    backbone.register_forward_pre_hook(wait)
    store = FeatureStore(folder, recipe("grid", backbone, 256))
    photos = write_photos(folder / name, [(256, 256)] * 48)
    said.put(fill_feature_stores(backbone, [CacheRequest(store, photos)], progress=False).photos)


def test_killed_goes_on_and_a_second_process_waits(tmp_path) -> None:
    context = get_context("fork")
    said = [context.SimpleQueue() for _ in range(3)]
    first, *others = (
        context.Process(target=slow_build, args=(tmp_path, str(i), 0.5 if i == 0 else 0.05, said[i]), daemon=True)
        for i in range(3)
    )
    first.start()
    assert [said[0].get() for _ in range(3)] == ["batch"] * 3
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    for process in others:
        process.start()
    counts = []
    for queue in said[1:]:
        while (word := queue.get()) == "batch":
            pass
        counts.append(word)
    for process in others:
        process.join(60)
        assert process.exitcode == 0
    assert min(counts) == 0  # one waited and found the work done
    assert 0 < max(counts) < 48  # the other went on from where the killed one was
    store = FeatureStore(tmp_path, recipe("grid", Tiny(), 256))
    assert len(set(store.digests())) == len(store) == 48


def test_a_store_sent_to_a_worker_carries_no_features(tmp_path) -> None:
    backbone = Tiny()
    photos = write_photos(tmp_path, [(32, 32)] * 3)
    store = FeatureStore(tmp_path, recipe("levels", backbone))
    fill_feature_stores(backbone, [CacheRequest(store, photos)], progress=False)
    expected = store.read(store.rows(list(photos)))
    sent = pickle.dumps(store)
    assert len(sent) < 2000
    again = pickle.loads(sent)
    assert torch.equal(again.read(again.rows(list(photos))), expected)


def test_a_store_grows_under_its_reader(tmp_path) -> None:
    backbone = Tiny()
    photos = write_photos(tmp_path, [(32, 32)] * 4)
    reader = FeatureStore(tmp_path, recipe("levels", backbone))
    for count in (2, 4):
        part = dict(list(photos.items())[:count])
        fill_feature_stores(backbone, [CacheRequest(FeatureStore(tmp_path, reader.recipe), part)], progress=False)
        assert len(reader.read(reader.rows(list(part)))) == count


def test_a_full_disk_is_said_before_the_work(tmp_path, monkeypatch) -> None:
    backbone = Tiny()
    photos = write_photos(tmp_path, [(32, 32)] * 3)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(UserError, match="data.cache_dir to another disk"):
        fill_feature_stores(
            backbone, [CacheRequest(FeatureStore(tmp_path, recipe("grid", backbone)), photos)], progress=False
        )


def test_time_is_measured(tmp_path) -> None:
    backbone = Tiny()
    photos = write_photos(tmp_path, [(32, 32)] * 2)
    started = time.monotonic()
    built = fill_feature_stores(
        backbone, [CacheRequest(FeatureStore(tmp_path, recipe("grid", backbone)), photos)], progress=False
    )
    assert 0 < built.seconds <= time.monotonic() - started


def test_batches_hold_one_shape_and_no_more_pixels_than_wanted() -> None:
    sizes = [(10, 10), (20, 10), (10, 10), (10, 10), (50, 50), (20, 10), (10, 10), (20, 10)]
    images = [(i, np.zeros((*size, 3), np.uint8)) for i, size in enumerate(sizes)]
    batches = list(batches_by_shape(images, 400))
    assert [keys for keys, _ in batches] == [[4], [1, 5], [0, 2, 3, 6], [7]]  # the last one is not full
    assert all(len({image.shape for image in batch}) == 1 for _, batch in batches)
    many = [(i, np.zeros((10, 10 + i, 3), np.uint8)) for i in range(60)]
    waiting = np.cumsum([image.size for _, image in many])
    first, _ = next(batches_by_shape(iter(many), 2000))
    assert first == [int((waiting <= 24 * 2000).sum())]  # of many shapes, the fullest goes before it is full


def test_images_of_any_sizes_keep_their_order() -> None:
    backbone = Tiny()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 32 + 8 * (i % 3), 3), np.uint8) for i in range(7)]
    extract = FeatureExtractor(backbone, ["levels", "grid"], 0, flip=True)
    extract.bf16 = False
    features = extract.extract(images)
    for i, image in enumerate(images):
        pixels = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
        for view, seen in enumerate((pixels, pixels.flip(3))):
            with torch.no_grad():
                expected = backbone(seen)
            torch.testing.assert_close(features["levels"][i, view], expected.levels[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(features["grid"][i, view].float(), expected.grid[0], rtol=0.01, atol=0.01)
    assert extract.extract([]) == {}
