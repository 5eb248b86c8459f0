"""Batches against the samples they come from."""

import pickle
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from src.config.schema import TokenizerConfig
from src.data import transforms
from src.data.batch import TaskInput
from src.data.dataset import EncodedCaptions, ImageDataset, InputOptions, hash_noise
from src.data.feature_store import CachedFeatures, FeatureStore
from src.data.image_io import load_image
from src.data.sample import Sample
from src.data.sampler import ImageDraw
from src.data.tokenizer import Tokenizer
from src.inference.feature_extractor import CacheRequest, fill_feature_stores
from tests.inference.test_feature_extractor import Tiny, recipe, write_photos

TEXTS = [f"{noun} {verb}" for noun in ("dog", "man", "tree", "boat") for verb in ("runs", "stands", "shines")]


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Six photos: mos only, captions only, both, neither, and one file that is no photo."""
    paths = list(write_photos(tmp_path / "photos", [(40, 50)] * 6).values())
    paths[5].write_text("no photo")
    captions: list[tuple[str, ...]] = [(), tuple(TEXTS[:5]), tuple(TEXTS[5:8]), (), tuple(TEXTS[:9]), (TEXTS[0],)]
    mos = [3.5, None, 7.25, None, None, 4.0]
    return [Sample(paths[i], f"{i:03}", "ab"[i % 2], mos[i], captions[i]) for i in range(6)]


def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, TokenizerConfig(min_count=1), ["a", "b"])


def photos(samples: list[Sample], **look: object) -> ImageDataset:
    return ImageDataset(
        samples, tokenizer(), [s.source for s in samples], InputOptions(mos_size=32, caption_size=32, **look)
    )


def draws(*indices: int, turn: int = 0) -> list[ImageDraw]:
    return [ImageDraw(index, turn) for index in indices]


def texts(tokens: torch.Tensor) -> list[list[str]]:
    return [[tokenizer().decode(ids) for ids in row.tolist() if any(ids)] for row in tokens]


def pixels(view: TaskInput | None) -> torch.Tensor:
    assert view is not None
    assert isinstance(view.pixels, torch.Tensor)
    return view.pixels


def test_labels_are_the_samples(samples) -> None:
    batch = photos(samples).__getitems__(draws(2, 0, 1))
    assert batch.names == ["002", "000", "001"]
    assert batch.sources == ["a", "a", "b"]
    assert batch.style.tolist() == [3, 3, 4]
    torch.testing.assert_close(batch.mos, torch.tensor([7.25, 3.5, torch.nan]), equal_nan=True)
    assert batch.references == [list(samples[i].captions) for i in (2, 0, 1)]
    assert texts(batch.tokens) == batch.references
    assert batch.tokens.shape == (3, 5, 4)  # most captions; style, two words and end
    assert (batch.tokens[0, :3, 0] == 3).all()
    assert (batch.tokens[2, :, 0] == 4).all()


def test_training_draws_captions_anew_at_each_turn(samples) -> None:
    data = photos(samples, training=True, labelled=True, captions_per_photo=2)
    seen = []
    for turn in range(40):
        batch = data.__getitems__(draws(1, 2, 0, turn=turn))
        assert batch.references == []
        drawn = texts(batch.tokens)
        assert [len(row) for row in drawn] == [2, 2, 0]
        assert len(set(drawn[0])) == 2  # without repetition
        assert set(drawn[0]) <= set(samples[1].captions)
        seen += drawn[0]
    counts = Counter(seen)
    assert set(counts) == set(samples[1].captions)
    assert max(counts.values()) <= 30  # 16 each on average
    assert photos(samples, training=True, captions_per_photo=0).__getitems__(draws(4)).tokens.shape[1] == 9


def test_a_photo_draws_the_same_in_any_batch_and_process(samples) -> None:
    data, other = photos(samples, training=True), photos(samples, training=True)
    torch.manual_seed(0)
    np.random.seed(0)
    first = data.__getitems__(draws(0, 1, 2, turn=3))
    torch.manual_seed(1)
    np.random.seed(1)
    alone = pickle.loads(pickle.dumps(other)).__getitems__(draws(2, turn=3))
    assert texts(alone.tokens) == texts(first.tokens)[2:]
    assert torch.equal(pixels(alone.mos_input)[0], pixels(first.mos_input)[2])
    different = photos(samples, training=True, seed=1)
    assert any(
        texts(different.__getitems__(draws(1, turn=t)).tokens) != texts(data.__getitems__(draws(1, turn=t)).tokens)
        for t in range(3)
    )


def test_half_of_the_photos_are_mirrored_in_training_only(samples) -> None:
    photo = transforms.resize_for_task(load_image(samples[0].path), 32)
    plain = torch.from_numpy(photo.astype(np.float32) / 255).permute(2, 0, 1)
    mirrored = 0
    for turn in range(60):
        seen = pixels(photos(samples, training=True).__getitems__(draws(0, turn=turn)).mos_input)[0]
        assert torch.equal(seen, plain) or torch.equal(seen, plain.flip(2))
        mirrored += torch.equal(seen, plain.flip(2))
    assert 18 <= mirrored <= 42
    for data in (photos(samples), photos(samples, training=True, flip=False)):
        assert all(torch.equal(pixels(data.__getitems__(draws(0, turn=t)).mos_input)[0], plain) for t in range(5))


def test_views_hold_labelled_rows_or_all(samples) -> None:
    batch = photos(samples, labelled=True).__getitems__(draws(0, 1, 2, 3))
    assert batch.mos_input
    assert batch.caption_input
    assert batch.mos_input.rows.tolist() == [0, 2]
    assert batch.caption_input.rows.tolist() == [1, 2]
    batch = photos(samples).__getitems__(draws(0, 1, 2, 3))
    assert batch.mos_input
    assert batch.caption_input
    assert batch.mos_input.rows.tolist() == batch.caption_input.rows.tolist() == [0, 1, 2, 3]
    assert batch.mos_input.pixels is batch.caption_input.pixels
    sent = pickle.loads(pickle.dumps(batch))
    assert sent.mos_input.pixels is sent.caption_input.pixels
    alone = photos(samples, captions=False).__getitems__(draws(0, 1))
    assert alone.caption_input is None
    assert photos(samples, labelled=True).__getitems__(draws(1)).mos_input is None


def test_each_task_has_its_own_size(samples) -> None:
    look = InputOptions(mos_size=0, caption_size=48)
    batch = ImageDataset(samples, tokenizer(), ["a"] * 6, look).__getitems__(draws(0, 1))
    assert pixels(batch.mos_input).shape == (2, 3, 40, 50)
    assert pixels(batch.caption_input).shape == (2, 3, 48, 48)


def test_photos_of_different_sizes_come_as_a_list(samples) -> None:
    cv2.imwrite(str(samples[1].path), np.zeros((60, 33, 3), np.uint8))
    look = InputOptions(mos_size=0, caption_size=48)
    batch = ImageDataset(samples, tokenizer(), ["a"] * 6, look).__getitems__(draws(0, 1))
    assert batch.mos_input
    assert isinstance(batch.mos_input.pixels, list)
    assert [tuple(p.shape) for p in batch.mos_input.pixels] == [(3, 40, 50), (3, 60, 33)]


def test_augmentation_never_touches_a_photo_with_mos(samples) -> None:
    data = photos(samples, training=True, labelled=True, augment=True, flip=False)
    plain = photos(samples).__getitems__(draws(1, 2))
    changed = 0
    for turn in range(8):
        batch = data.__getitems__(draws(1, 2, turn=turn))
        assert batch.mos_input
        assert torch.equal(pixels(batch.mos_input)[0], pixels(plain.mos_input)[1])
        assert torch.equal(pixels(batch.caption_input)[1], pixels(plain.caption_input)[1])
        changed += not torch.equal(pixels(batch.caption_input)[0], pixels(plain.caption_input)[0])
    assert changed == 8


def test_an_unreadable_photo_is_in_no_view_but_keeps_its_row(samples) -> None:
    batch = photos(samples).__getitems__(draws(0, 5, 2))
    assert batch.names == ["000", "005", "002"]
    assert batch.unreadable == [1]
    assert batch.mos_input
    assert batch.mos_input.rows.tolist() == [0, 2]
    alone = photos(samples).__getitems__(draws(5))
    assert alone.mos_input is None
    assert alone.caption_input is None


def test_features_from_the_cache_are_those_of_live_photos(samples, tmp_path) -> None:
    backbone = Tiny()
    files = write_photos(tmp_path / "photos", [(40, 50)] * 6)
    stores = {kind: FeatureStore(tmp_path, recipe(kind, backbone)) for kind in ("levels", "grid")}
    fill_feature_stores(backbone, [CacheRequest(store, files) for store in stores.values()], progress=False)
    rows = stores["grid"].rows(list(files))
    rows[3] = -1
    look = InputOptions(mos_size=32, caption_size=32, training=True, labelled=False, seed=5)
    cached = ImageDataset(
        samples, tokenizer(), ["a"] * 6, look, *(CachedFeatures([stores[k]], rows[None]) for k in ("levels", "grid"))
    )
    live = ImageDataset(samples, tokenizer(), ["a"] * 6, look)
    for turn in range(4):
        one, other = (data.__getitems__(draws(0, 1, 3, 4, turn=turn)) for data in (cached, live))
        assert one.unreadable == [2]
        assert torch.equal(one.tokens, other.tokens)
        assert one.mos_input
        assert one.caption_input
        assert one.mos_input.rows.tolist() == [0, 1, 3]
        with torch.no_grad():
            expected = backbone(pixels(other.mos_input)[one.mos_input.rows])
        assert one.mos_input.features is not None
        assert one.caption_input.features is not None
        torch.testing.assert_close(one.mos_input.features, expected.levels, rtol=0.01, atol=0.01)
        torch.testing.assert_close(one.caption_input.features.float(), expected.grid, rtol=0.01, atol=0.01)


def test_captions_are_compact_and_empty_ones_left_out() -> None:
    rng = np.random.default_rng(0)
    table = [
        Sample(Path("x"), str(i), "a", None, tuple(rng.choice([*TEXTS, "", " . "], rng.integers(0, 6))))
        for i in range(4500)
    ]
    captions = EncodedCaptions(table, tokenizer(), np.full(len(table), 3))
    expected = [[text for text in sample.captions if text.strip(" .")] for sample in table]
    assert captions.counts.tolist() == [len(row) for row in expected]
    some = rng.permutation(len(table))[:50]
    assert texts(captions.tokens(captions.all(some))) == [expected[i] for i in some]
    size = captions.ids.nbytes + captions.start.nbytes + captions.first.nbytes
    assert size < 4 * 4 * sum(map(len, expected)) + 8 * (sum(map(len, expected)) + len(table) + 2) + 1


def test_a_batch_without_captions_has_padding() -> None:
    captions = EncodedCaptions([Sample(Path("x"), "0", "a")], tokenizer(), np.array([3]))
    for chosen in (captions.all(np.array([0])), captions.draw(np.array([0]), np.array([0]), 5, 0)):
        assert captions.tokens(chosen).tolist() == [[[0, 0]]]


def test_noise_is_even_and_spreads_over_all_bits() -> None:
    values = hash_noise(0, np.arange(200)[:, None], np.arange(200)[None])
    assert len(np.unique(values)) == 40_000
    bits = (values[..., None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean((0, 1)) - 0.5).max() < 0.02
    assert abs(np.corrcoef(values[:-1].ravel().astype(float), values[1:].ravel().astype(float))[0, 1]) < 0.02
    assert (hash_noise(0, np.arange(5)) != hash_noise(1, np.arange(5))).all()
