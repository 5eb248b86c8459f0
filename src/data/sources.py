"""Data sets -> samples: one reader a format."""

from types import ModuleType

from src.common.errors import UserError
from src.config.schema import Config, DataConfig, SourceConfig
from src.data.formats import coco, flickr, samsung
from src.data.formats.base import source_name
from src.data.leaky_split import as_caption_pairs, check_leaky_sources, is_leaky
from src.data.sample import Sample
from src.data.split import part_samples, split_images


def read_source(source: SourceConfig) -> list[Sample]:
    """The samples of one data set, one a photo. Whether the photos are there is not looked at: see check.

    Raises:
        UserError: its tables cannot be read; the file and row are named.
    """
    return format_module(source).read_samples(source)


def read_sources(config: DataConfig) -> list[Sample]:
    """The samples of all data sets, in the config's order: one a photo, or one a pair where the split is by pairs.

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
    """The official split, {photo name: train, val or test}, of each data set that asks for it.

    Raises:
        UserError: a data set has none.
    """
    return {
        source_name(source): format_module(source).official_split(source)
        for source in config.sources
        if source.split == "official"
    }


def format_module(source: SourceConfig) -> ModuleType:
    """The module that reads a format: `read`, `official_split` and `raw_captions`."""
    return {"samsung": samsung, "flickr8k": flickr, "flickr30k": flickr, "coco": coco}[source.format]


def load_part(config: Config, part: str) -> list[Sample]:
    """The samples of train, val or test as the config splits them.

    Raises:
        UserError: that part is empty, or none of its images has a label.
    """
    samples = read_sources(config.data)
    chosen = part_samples(samples, split_images(samples, config.data, official_splits(config.data)), part)
    if not any(sample.captions or sample.mos is not None for sample in chosen):
        kind = "labelled photos" if chosen else "photos"
        raise UserError(f"--part {part}: the split has no {kind} there; choose another part or set data.{part}")
    return chosen
