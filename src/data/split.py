"""Images -> train, val, test: by image, identical bytes on one side, stratified by mos, and written to disk."""

import hashlib
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.common.errors import UserError
from src.common.files import atomic_write
from src.config.schema import DataConfig
from src.data.exclusions import leave_out
from src.data.formats.base import source_name
from src.data.image_hashes import hash_image, hash_images, map_in_threads
from src.data.leaky_split import LEAKING, is_leaky, warn_leaked
from src.data.near_duplicates import near_duplicate_labels
from src.data.sample import Sample

Key = tuple[str, str]
Given = Mapping[str, Mapping[str, str]]
PARTS = ["train", "val", "test"]
BIN = 20
TRAIN_ONLY = "train_only"  # in the place of a part in an official split: no photo to score by, such as pseudo-labels
COLUMNS = ["source", "img_name", "part", "sha256"]


def split_images(samples: Sequence[Sample], config: DataConfig, given: Given) -> dict[Key, str]:
    """Each image's part: train, val or test, by (source, name); an image in no part is absent.

    Computed once, then read from config.split_dir as long as settings, official lists and images' names are the same.

    Args:
        samples: of all sources; (source, name) is unique.
        config: val, test, folds, fold, split_seed; split_dir; exclude.
        given: the official splits (sources.official_splits).

    Raises:
        UserError: impossible settings, a split file of other images, or made without some, or as read_exclusions.
    """
    _check(config)
    given = {**given, **shifted_splits(samples, config)}
    file = split_file(samples, config, given)
    if file.is_file():
        parts = read_split(file, samples)
    else:
        hashes = hash_images([sample.path for sample in samples], Path(config.split_dir))
        parts = assign_parts(samples, config, given, unit_labels(samples, config, hashes))
        write_split(file, samples, parts, hashes)
    if is_leaky(config):
        warn_leaked(samples, parts)
    return _final_parts(parts, config, samples)


def planned_split(
    samples: Sequence[Sample], config: DataConfig, given: Given, hashes: Sequence[str | None]
) -> dict[Key, str]:
    """As split_images, without writing: read from its file where that exists, else computed."""
    _check(config)
    given = {**given, **shifted_splits(samples, config)}
    file = split_file(samples, config, given)
    if file.is_file():
        parts = read_split(file, samples)
    else:
        parts = assign_parts(samples, config, given, unit_labels(samples, config, hashes))
    return _final_parts(parts, config, samples)


def shifted_splits(samples: Sequence[Sample], config: DataConfig) -> dict[str, dict[str, str]]:
    """The parts, by image name, of each source whose split is shifted, which `ensure_shifted_splits` wrote.

    Raises:
        UserError: a source's file is missing.
    """
    splits = {}
    for source in [source_name(source) for source in config.sources if source.split == "shifted"]:
        members = [sample for sample in samples if sample.source == source]
        if not (file := shifted_file(members, config)).is_file():
            remedy = "make it with python -m src.prepare split --config X.yaml (of a model: its config.yaml)"
            raise UserError(f"{file}: split shifted of {source} is not made yet; {remedy}")
        splits[source] = {name: part for (_, name), part in read_split(file, members).items()}
    return splits


def shifted_file(samples: Sequence[Sample], config: DataConfig) -> Path:
    """The file of the shifted split of one source's images, named by its seed and a hash of settings and names."""
    text = json.dumps([config.val, config.test, config.split_seed, sorted(map(_key, samples))])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Path(config.split_dir) / f"shifted{config.split_seed}_{digest}.csv"


def split_file(samples: Sequence[Sample], config: DataConfig, given: Given) -> Path:
    """The file of a split, named by its seed and a hash of the settings, the official lists and the images' names."""
    names = hashlib.sha256()
    drawn = LEAKING if is_leaky(config) else "random"
    for source, name in sorted(map(_key, samples)):
        part = given[source].get(name, "") if source in given else drawn
        names.update(json.dumps([source, name, part]).encode())
    settings: list[Any] = [config.val, config.test, config.folds, config.fold, config.split_seed]
    settings += ["near duplicates"] if config.near_duplicates else []
    text = json.dumps([settings, names.hexdigest()])
    return Path(config.split_dir) / f"seed{config.split_seed}_{hashlib.sha256(text.encode()).hexdigest()[:16]}.csv"


def assign_parts(
    samples: Sequence[Sample], config: DataConfig, given: Given, labels: Sequence[str | None]
) -> dict[Key, str]:
    """As split_images, without any file.

    Images for training only do not take part in the split of the others; those with a unit's label that is held out are
    in no part.

    Raises:
        UserError: as split_images.
    """
    extra = {source for source, split in given.items() if TRAIN_ONLY in split.values()}
    pairs = [(sample, label) for sample, label in zip(samples, labels, strict=True) if sample.source not in extra]
    official = {source: split for source, split in given.items() if source not in extra}
    parts = _assign_labelled([sample for sample, _ in pairs], config, official, [label for _, label in pairs])
    for unit in _units(samples, labels) if extra else ():
        added = [sample for sample in unit if sample.source in extra]
        if all(parts.get(_key(sample), "train") == "train" for sample in unit):
            parts |= {_key(sample): "train" for sample in added}
    return parts


def _assign_labelled(
    samples: Sequence[Sample], config: DataConfig, given: Given, labels: Sequence[str | None]
) -> dict[Key, str]:
    """The parts of images that are not for training only.

    Images with the same label, as unit_labels gives them, are one unit. A unit with officially split images follows
    their list; where lists disagree, test goes before val before train, and the official images of the other parts are
    left out of all. An official split without val gives the share config.val of its train to val.
    Where the split is by pairs, each pair is a unit.
    """
    official = set(given)
    parts: dict[Key, str] = {}
    listed_parts = {source: set(split.values()) for source, split in given.items()}
    free: dict[str, list[list[Sample]]] = defaultdict(list)
    undivided: dict[str, list[list[Sample]]] = defaultdict(list)
    for unit in _units(samples, [None] * len(samples) if is_leaky(config) else labels):
        listed = [part for sample in unit if (part := given.get(sample.source, {}).get(sample.name))]
        rest = [sample for sample in unit if sample.source not in official]
        if listed:
            part = max(listed, key=PARTS.index)
            placed = [s for s in unit if s.source not in official or given[s.source].get(s.name) == part]
            parts |= {_key(sample): part for sample in placed}
            source = next(s.source for s in placed if s.source in official)
            if part == "train" and "val" not in listed_parts[source]:
                undivided[source].append(placed)
        elif rest:
            free[rest[0].source].append(rest)
    for groups, settings in ((free, config), (undivided, replace(config, test=0.0))):
        for source, units in groups.items():
            for unit, part in zip(units, _draw_parts(units, source, settings), strict=True):
                parts |= {_key(sample): part for sample in unit}
    return parts


def unit_labels(samples: Sequence[Sample], config: DataConfig, hashes: Sequence[str | None]) -> Sequence[str | None]:
    """A label for each image, equal for those that must be in one part: copies, and near-duplicates where configured.

    Args:
        samples: the images.
        config: near_duplicates, split_dir.
        hashes: SHA-256 of each image; None: it has no file, and is a unit by itself.
    """
    if not config.near_duplicates:
        return hashes
    return near_duplicate_labels([sample.path for sample in samples], hashes, Path(config.split_dir))


def part_samples(samples: Iterable[Sample], parts: Mapping[Key, str], part: str) -> list[Sample]:
    """The samples of one part, in their order."""
    return [sample for sample in samples if parts.get(_key(sample)) == part]


def _final_parts(parts: dict[Key, str], config: DataConfig, samples: Sequence[Sample]) -> dict[Key, str]:
    """The parts without excluded images, and with val in train where the config says so."""
    merged = {key: "train" if part == "val" and config.train_on_val else part for key, part in parts.items()}
    return leave_out(merged, config, samples)


def _key(sample: Sample) -> Key:
    return sample.source, sample.name


def _check(config: DataConfig) -> None:
    if config.val + config.test >= 1:
        raise UserError(f"data.val {config.val} and data.test {config.test} leave nothing to train; lower them")
    if config.folds == 1:
        raise UserError("data.folds is 1: set 0 for none, or at least 2")
    if config.folds and config.fold >= config.folds:
        raise UserError(f"data.fold is {config.fold}: set one of 0..{config.folds - 1}")


def _units(samples: Sequence[Sample], labels: Sequence[str | None]) -> list[list[Sample]]:
    """Images by label, in an order that does not depend on the samples'. An image without a label is a unit."""
    units: dict[object, list[Sample]] = defaultdict(list)
    for sample, label in sorted(zip(samples, labels, strict=True), key=lambda pair: _key(pair[0])):
        units[label or _key(sample)].append(sample)
    return list(units.values())


def _draw_parts(units: Sequence[Sequence[Sample]], source: str, config: DataConfig) -> list[str]:
    """A random part for each unit of one source. Its draw does not depend on the other sources."""
    rng = np.random.default_rng([config.split_seed, zlib.crc32(source.encode())])
    mos = np.array([_mos(unit) for unit in units])
    parts = np.full(len(units), "train", dtype="<U5")
    everything = np.arange(len(units))
    parts[stratified_draw(everything, mos, config.test, rng)] = "test"
    rest = everything[parts == "train"]
    if config.folds:
        parts[rest[_folds(mos[rest], config.folds, rng) == config.fold]] = "val"
    else:
        parts[stratified_draw(rest, mos, config.val / (1 - config.test), rng)] = "val"
    return parts.tolist()


def _mos(unit: Sequence[Sample]) -> float:
    known = [sample.mos for sample in unit if sample.mos is not None]
    return math.fsum(known) / len(known) if known else math.nan


def _bins(mos: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices in random order, cut by rising mos into bins of about BIN; those without mos are one more bin."""
    order = rng.permutation(len(mos))
    known = order[np.isfinite(mos[order])]
    known = known[np.argsort(mos[known], kind="stable")]
    bins = np.array_split(known, max(1, round(len(known) / BIN)))
    return [rng.permutation(b) for b in [*bins, order[~np.isfinite(mos[order])]]]


def stratified_draw(among: np.ndarray, mos: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A random share of some indices, as even over mos as whole numbers allow; at least one if share is not 0."""
    if not share or len(among) < 2:
        return among[:0]
    share = max(share, 1 / len(among))
    chosen, before = [], 0
    for members in _bins(mos[among], rng):
        count = int(share * (before + len(members)) + 0.5) - int(share * before + 0.5)
        chosen.append(members[:count])
        before += len(members)
    return among[np.concatenate(chosen)]


def _folds(mos: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """[n] int: each unit's fold. Dealt out in the bins' order, so sizes differ by at most one."""
    result = np.empty(len(mos), dtype=np.int64)
    result[np.concatenate(_bins(mos, rng))] = np.arange(len(mos)) % folds
    return result


def write_split(file: Path, samples: Sequence[Sample], parts: Mapping[Key, str], hashes: Sequence[str | None]) -> None:
    """Writes the part and the SHA-256 of each image, as `read_split` takes them; None: it cannot be read."""
    rows = [(*_key(s), parts.get(_key(s), ""), digest or "") for s, digest in zip(samples, hashes, strict=True)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    with atomic_write(file) as part:
        table.to_csv(part, index=False, encoding="utf-8")


def read_split(file: Path, samples: Sequence[Sample]) -> dict[Key, str]:
    """The parts of a split file. Raises UserError where it is none, of other images, or made without some of them."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except ValueError:  # empty, binary or no table
        table = pd.DataFrame()
    if list(table.columns) != COLUMNS or not table["part"].isin(["", *PARTS]).all():
        raise UserError(f"{file}: is no split file; delete it, and the split is made anew")
    keys = list(zip(table["source"], table["img_name"], strict=True))
    if set(keys) != {_key(sample) for sample in samples}:
        raise UserError(f"{file}: names other photos than the data set; delete it, and the split is made anew")
    unhashed = {key for key, digest in zip(keys, table["sha256"], strict=True) if not digest}
    _refuse_late(file, [sample for sample in samples if _key(sample) in unhashed])
    return {key: part for key, part in zip(keys, table["part"], strict=True) if part}


def _refuse_late(file: Path, unhashed: Sequence[Sample]) -> None:
    """Raises UserError where images can be read now that were missing when the split was made.

    They may be on another side than their copies.
    """
    hashes = map_in_threads(lambda sample: hash_image(str(sample.path)), unhashed)
    late = [sample for sample, digest in zip(unhashed, hashes, strict=True) if digest]
    if late:
        raise UserError(
            f"{file}: was made when {len(late):,} photos were missing that are there now, {late[0].path} for one, so "
            "copies of a photo may be on two sides; delete it, and the split is made anew"
        )
