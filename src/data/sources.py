"""Data sets -> samples: each source is read by its format, and one part of them all is loaded.

Held by tests/data/formats and tests/data/test_format_plugins.py.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

from src.common.errors import UserError
from src.common.plugins import load_plugin, plugin_names
from src.common.progress import print_once
from src.common.text_table import format_table
from src.config.schema import Config, DataConfig, SourceConfig
from src.data.formats.base import FORMATS, NoOfficialSplit, is_missing, source_name
from src.data.leaky_split import as_caption_pairs, check_leaky_sources, is_leaky
from src.data.sample import Sample
from src.data.split import PARTS, part_samples, shifted_splits, split_file, split_images
from src.data.validation_report import DataProblem


def load_format(source: SourceConfig) -> ModuleType:
    """The file that reads a source; src/data/formats/base.py says what it defines.

    Raises:
        UserError: there is no such format; names the nearest one.
    """
    return load_plugin(FORMATS, source.format, "data.sources.format")


def read_source(source: SourceConfig) -> list[Sample]:
    """The samples of one data set, one an image, without missing captions. Missing images stay in: see validation.

    Raises:
        UserError: its tables cannot be read; names file and row.
    """
    return [_without_missing_captions(sample) for sample in load_format(source).read_samples(source)]


def _without_missing_captions(sample: Sample) -> Sample:
    captions = tuple(text for text in sample.captions if not is_missing(text))
    return sample if len(captions) == len(sample.captions) else replace(sample, captions=captions)


def read_raw_captions(source: SourceConfig) -> dict[str, list[str]]:
    """Each image's captions as they stand in the files, empty ones too where the format tells them."""
    if read := getattr(load_format(source), "raw_captions", None):
        return read(source)
    return {sample.name: list(sample.captions) for sample in read_source(source)}


def read_official_split(source: SourceConfig) -> dict[str, str]:
    """train, val or test by image name.

    Raises:
        NoOfficialSplit: the data set has none.
        UserError: it cannot be read.
    """
    if read := getattr(load_format(source), "official_split", None):
        return read(source)
    where = f"data source {source_name(source)}: format {source.format}"
    raise NoOfficialSplit(f"{where} has no official split; set split: random")


def find_format_problems(source: SourceConfig) -> list[DataProblem]:
    """Problems of a data set that only its format knows of."""
    find = getattr(load_format(source), "find_problems", None)
    return find(source) if find else []


def challenge_sources(sources: Sequence[SourceConfig]) -> list[SourceConfig]:
    """The sources whose captions have the style of submissions.

    A format whose file is absent here does not count: a trained model works without the files of its formats.
    """
    formats = plugin_names(FORMATS)
    return [s for s in sources if s.format in formats and getattr(load_format(s), "CHALLENGE", False)]


def pseudo_sources(sources: Sequence[SourceConfig]) -> set[str]:
    """The names of the sources whose format is for training only, since its labels are a model's."""
    formats = plugin_names(FORMATS)
    named = [s for s in sources if s.format in formats and getattr(load_format(s), "TRAIN_ONLY", False)]
    return {source_name(source) for source in named}


def read_sources(config: DataConfig) -> list[Sample]:
    """The samples of all data sets, in the config's order: one an image, or one a pair where the split is by pairs.

    Raises:
        UserError: no data set is named, two have one name, an honest split is mixed with a leaking one, or as
            read_source.
    """
    if not config.sources:
        raise UserError("data.sources is empty; name a data set: data: {sources: [{format: samsung, path: FOLDER}]}")
    names = [source_name(source) for source in config.sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"data.sources: two are called {name}; give each its own `name`")
    check_leaky_sources(config)
    samples = [sample for source in config.sources for sample in read_source(source)]
    return as_caption_pairs(samples) if is_leaky(config) else samples


def official_splits(config: DataConfig) -> dict[str, dict[str, str]]:
    """The official split, {image name: train, val or test}, of each data set whose `split` is official.

    Of those whose `split` is auto, the ones that have one; the others are named on stderr.

    Raises:
        UserError: a data set has none, and its `split` is official.
    """
    splits, pseudo = {}, pseudo_sources(config.sources)
    for source in config.sources:
        if source.split in ("official", "auto") or source_name(source) in pseudo:
            try:
                splits[source_name(source)] = read_official_split(source)
            except NoOfficialSplit as error:
                if source.split == "official":
                    raise
                reason = str(error).partition(";")[0]
                print_once(f"{source_name(source)} is split at random, always the same way: {reason}")
    return splits


def load_part(config: Config, part: str) -> list[Sample]:
    """The samples of train, val or test as the config splits them.

    Raises:
        UserError: that part is empty, or none of its images has a label.
    """
    if part == "val" and config.data.train_on_val:
        raise UserError("--part val: the model was trained on these photos too; score its group, or choose --part test")
    samples = read_sources(config.data)
    chosen = part_samples(samples, split_images(samples, config.data, official_splits(config.data)), part)
    if not any(sample.captions or sample.mos is not None for sample in chosen):
        kind = "labelled photos" if chosen else "photos"
        raise UserError(f"--part {part}: the split has no {kind} there; choose another part or set data.{part}")
    return chosen


def make_split(config: DataConfig) -> str:
    """Writes the split that training will use, unless it is on disk already. Returns its parts as a table, and advice.

    Raises:
        UserError: as read_sources and split_images.
    """
    samples, official = read_sources(config), official_splits(config)
    official |= shifted_splits(samples, config)
    file = split_file(samples, config, official)
    state = "unchanged:" if file.is_file() else "wrote"
    counts = Counter((source, part) for (source, _), part in split_images(samples, config, official).items())
    sources = dict.fromkeys(sample.source for sample in samples)
    rows = [["source", *PARTS], *([source, *(str(counts[source, part]) for part in PARTS)] for source in sources)]
    lines = [format_table(rows, right=range(1, len(PARTS) + 1)), f"{state} {file}"]
    if missing := [sample.path for sample in samples if not os.path.isfile(sample.path)]:  # noqa: PTH113
        lines.append(
            f"warning: {len(missing):,} photos are missing, {missing[0]} for one: copies are found by their bytes;"
        )
        lines.append(f"         copy the photos there, delete {file}, and type the same command again")
    return "\n".join(lines)
