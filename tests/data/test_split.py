import csv
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

from src.common.errors import UserError
from src.config.schema import DataConfig
from src.data.image_hashes import hash_images
from src.data.sample import Sample
from src.data.split import assign_parts, part_samples, split_file, split_images


def photos(count: int, source: str = "a", mos: bool = True, folder: Path = Path("x")) -> list[Sample]:
    rng = np.random.default_rng(7)
    values = rng.gamma(4, 1, count)
    return [
        Sample(folder / f"{source}_{i}.jpg", str(i), source, float(values[i]) if mos else None) for i in range(count)
    ]


def distinct(samples: Sequence[Sample]) -> list[str | None]:
    return [f"{sample.source}/{sample.name}" for sample in samples]


def mos_of(samples: Sequence[Sample], parts: dict, part: str) -> np.ndarray:
    return np.array([sample.mos for sample in part_samples(samples, parts, part)])


@pytest.mark.parametrize("mos", [True, False])
def test_shares_and_every_photo_once(mos: bool) -> None:
    samples = photos(1003, mos=mos)
    parts = assign_parts(samples, DataConfig(val=0.1, test=0.2), {}, distinct(samples))
    assert len(parts) == 1003
    assert Counter(parts.values()) == {"train": 702, "val": 100, "test": 201}


def test_parts_have_the_same_distribution_of_mos() -> None:
    samples = photos(1000)
    parts = assign_parts(samples, DataConfig(val=0.1, test=0.1), {}, distinct(samples))
    everything = np.array([sample.mos for sample in samples])
    for part in ("train", "val", "test"):
        assert ks_2samp(mos_of(samples, parts, part), everything).statistic < 0.03  # chance gives about 0.09


def test_seed_decides_and_order_does_not() -> None:
    samples = photos(200)
    config = DataConfig(val=0.2)
    parts = assign_parts(samples, config, {}, distinct(samples))
    assert assign_parts(samples[::-1], config, {}, distinct(samples[::-1])) == parts
    assert assign_parts(samples, replace(config, split_seed=1), {}, distinct(samples)) != parts


def test_another_source_does_not_move_the_first() -> None:
    first, second = photos(100), photos(60, "b", mos=False)
    config = DataConfig(val=0.2)
    alone = assign_parts(first, config, {}, distinct(first))
    both = assign_parts([*second, *first], config, {}, distinct([*second, *first]))
    assert {key: part for key, part in both.items() if key[0] == "a"} == alone
    assert Counter(part for key, part in both.items() if key[0] == "b") == {"train": 48, "val": 12}


def test_folds_are_disjoint_cover_all_and_are_stratified() -> None:
    samples = photos(503)
    held: list[str] = []
    for fold in range(5):
        parts = assign_parts(samples, DataConfig(folds=5, fold=fold, test=0.1), {}, distinct(samples))
        part = [sample.name for sample in part_samples(samples, parts, "val")]
        tests = {sample.name for sample in part_samples(samples, parts, "test")}
        assert len(tests) == 50
        assert len(part) in (90, 91)
        assert ks_2samp(mos_of(samples, parts, "val"), np.array([s.mos for s in samples])).statistic < 0.06
        held += part
    assert len(held) == len(set(held))
    assert set(held) | tests == {sample.name for sample in samples}


def test_same_bytes_stay_on_one_side_also_across_sources() -> None:
    first, second = photos(200), photos(200, "b", mos=False)
    samples = [*first, *second]
    digests: list[str | None] = [f"{i // 2}" for i in range(200)] + [f"{i}" for i in range(200)]
    for seed in range(5):
        parts = assign_parts(samples, DataConfig(val=0.3, test=0.2, split_seed=seed), {}, digests)
        sides: dict[str | None, set[str]] = {}
        for sample, digest in zip(samples, digests, strict=True):
            sides.setdefault(digest, set()).add(parts[sample.source, sample.name])
        assert all(len(side) == 1 for side in sides.values())
        assert set(parts.values()) == {"train", "val", "test"}


def test_official_lists_are_followed_and_others_are_left_out() -> None:
    samples = photos(10, mos=False)
    given = {"a": {"0": "train", "1": "val", "2": "test"}}
    parts = assign_parts(samples, DataConfig(), given, distinct(samples))
    assert parts == {("a", "0"): "train", ("a", "1"): "val", ("a", "2"): "test"}


def test_official_split_without_val_draws_it_from_train() -> None:
    samples = photos(100) + photos(1, "b")
    official = {"a": {str(i): "train" if i < 80 else "test" for i in range(100)}, "b": {"0": "train"}}
    twin = [*distinct(samples[:-1]), "a/0"]  # b_0.jpg has a_0.jpg's bytes
    parts = assign_parts(samples, DataConfig(val=0.1), official, twin)
    assert Counter(parts.values()) == {"train": 73, "val": 8, "test": 20}
    assert {part for (_, name), part in parts.items() if int(name) >= 80} == {"test"}
    assert parts["a", "0"] == parts["b", "0"]
    folds = [assign_parts(samples, DataConfig(folds=4, fold=i), official, twin) for i in range(4)]
    drawn = [key for parts in folds for key, part in parts.items() if part == "val"]
    assert sorted(drawn) == [*sorted(("a", str(i)) for i in range(80)), ("b", "0")]


def test_official_duplicates_are_left_out_of_training() -> None:
    samples = photos(4, mos=False)
    given = {"a": {"0": "train", "1": "test", "2": "val", "3": "train"}}
    parts = assign_parts(samples, DataConfig(), given, ["same", "same", "other", "other"])
    assert parts == {("a", "1"): "test", ("a", "2"): "val"}


def test_random_photo_follows_its_official_twin() -> None:
    official, free = photos(2, mos=False), photos(2, "b")
    given = {"a": {"0": "test", "1": "train"}}
    parts = assign_parts([*official, *free], DataConfig(val=0.5), given, ["x", "y", "x", "y"])
    assert parts == {("a", "0"): "test", ("a", "1"): "train", ("b", "0"): "test", ("b", "1"): "train"}


def test_photos_without_a_file_are_units_of_their_own() -> None:
    samples = photos(40)
    assert Counter(assign_parts(samples, DataConfig(val=0.5), {}, [None] * 40).values()) == {"train": 20, "val": 20}


def test_small_data_keeps_one_photo_for_validation() -> None:
    samples = photos(4)
    assert Counter(assign_parts(samples, DataConfig(val=0.1), {}, distinct(samples)).values()) == {"train": 3, "val": 1}
    assert Counter(assign_parts(samples, DataConfig(val=0.0), {}, distinct(samples)).values()) == {"train": 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 0.6, "test": 0.4}, "data.val"),
        ({"folds": 1}, "data.folds"),
        ({"folds": 3, "fold": 3}, "data.fold is 3"),
    ],
)
def test_impossible_settings(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        split_images(photos(10), DataConfig(split_dir=str(tmp_path), **options), {})


def written(folder: Path, names: Sequence[str]) -> list[Sample]:
    samples = []
    for name in names:
        path = folder / f"{name}.jpg"
        path.write_bytes(name.encode())
        samples.append(Sample(path, name, "a", 5.0))
    return samples


def test_split_is_written_with_hashes_and_never_changes(tmp_path: Path) -> None:
    names = ["0213074526", "1e5", "00", "two words", "바다", "NA", 'say "hi", you', *map(str, range(20))]
    samples = written(tmp_path, names)
    config = DataConfig(val=0.3, split_dir=str(tmp_path / "splits"), split_seed=3)
    parts = split_images(samples, config, {})
    file = split_file(samples, config, {})
    assert file.name.startswith("seed3_")
    with file.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["img_name"] for row in rows] == names
    assert {("a", row["img_name"]): row["part"] for row in rows} == parts
    assert rows[1]["sha256"] == hashlib.sha256(b"1e5").hexdigest()
    # Other labels or bytes would give another split, but this one stays.
    changed = [replace(sample, mos=float(i)) for i, sample in enumerate(samples)]
    samples[0].path.write_bytes(samples[1].path.read_bytes())
    assert split_images(changed[::-1], config, {}) == parts
    assert split_images(samples, replace(config, split_seed=4), {}) != parts


def test_split_file_depends_on_settings_lists_and_names(tmp_path: Path) -> None:
    samples = photos(10)
    config = DataConfig()
    others = [
        split_file(samples, config, {}),
        split_file(samples[1:], config, {}),
        split_file(samples, config, {"a": {"1": "train"}}),
        split_file(samples, config, {"a": {"1": "val"}}),
        *(split_file(samples, replace(config, **change), {}) for change in ({"val": 0.2}, {"folds": 2}, {"fold": 1})),  # type: ignore[arg-type]
    ]
    assert len(set(others)) == len(others)
    assert split_file(samples[::-1], replace(config, caption_size=96), {}) == others[0]


def test_damaged_split_file_is_named(tmp_path: Path) -> None:
    samples = written(tmp_path, list("abcdef"))
    config = DataConfig(split_dir=str(tmp_path))
    split_images(samples, config, {})
    file = split_file(samples, config, {})
    text = file.read_bytes()
    damaged = [b"x,y\n1,2\n", text.replace(b"train", b"trian"), text.replace(b"a,b,", b"a,z,"), b"", b"\xff\xfe\x00"]
    for damage in damaged:
        file.write_bytes(damage)
        with pytest.raises(UserError, match="delete it"):
            split_images(samples, config, {})


def test_photos_that_came_after_the_split_are_refused(tmp_path: Path) -> None:
    samples = written(tmp_path, list("abcdef"))
    config = DataConfig(val=0.5, split_dir=str(tmp_path / "splits"))
    late = [sample.path for sample in samples[:2]]
    for path in late:
        path.unlink()
    parts = split_images(samples, config, {})
    assert split_images(samples, config, {}) == parts
    file = split_file(samples, config, {})
    for path in late:
        path.write_bytes(b"the same")
    with pytest.raises(UserError, match=r"csv: was made when 2 photos were missing .*a\.jpg.*; delete it"):
        split_images(samples, config, {})
    file.unlink()
    parts = split_images(samples, config, {})
    assert parts["a", "a"] == parts["a", "b"]
    assert split_images(samples, config, {}) == parts


def test_hashes_are_right_remembered_and_renewed(tmp_path: Path) -> None:
    samples = written(tmp_path, ["a", "b", "바다 1"])
    paths = [*(sample.path for sample in samples), tmp_path / "absent.jpg", tmp_path, Path("\0"), Path("x" * 300)]
    folder = tmp_path / "hashes"
    wanted: list[str | None] = [hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b", "바다 1")]
    assert hash_images(paths, folder) == [*wanted, None, None, None, None]
    first = (folder / "hashes.json").stat().st_mtime_ns
    paths[1].write_bytes(b"longer than before")
    wanted[1] = hashlib.sha256(b"longer than before").hexdigest()
    assert hash_images(paths, folder) == [*wanted, None, None, None, None]
    assert (folder / "hashes.json").stat().st_mtime_ns != first
    for damaged in ("{damaged", json.dumps({str(paths[0]): 1, str(paths[1]): ["too", "few"]})):
        (folder / "hashes.json").write_text(damaged)
        assert hash_images(paths, folder) == [*wanted, None, None, None, None]


def test_hashes_that_cannot_be_kept_are_there_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    [sample] = written(tmp_path, ["a"])
    (tmp_path / "file").write_text("")
    assert hash_images([sample.path], tmp_path / "file") == [hashlib.sha256(b"a").hexdigest()]
    [told] = caplog.messages
    assert "file/hashes.json: cannot be written" in told


def test_second_call_reads_no_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = written(tmp_path, ["a", "b"])
    paths = [sample.path for sample in samples]
    first = hash_images(paths, tmp_path / "hashes")
    for path in paths:  # other bytes, same size and time: only a read would see them
        stat = path.stat()
        path.write_bytes(b"z")
        import os

        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert hash_images(paths, tmp_path / "hashes") == first


def test_hundred_thousand_photos(tmp_path: Path) -> None:
    import time

    samples = photos(100_000)
    start = time.process_time()
    parts = assign_parts(samples, DataConfig(val=0.1, test=0.1), {}, distinct(samples))
    assert time.process_time() - start < 10
    assert Counter(parts.values()) == {"train": 80_000, "val": 10_000, "test": 10_000}
