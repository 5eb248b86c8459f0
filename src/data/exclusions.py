"""Photos and captions that training leaves out: a list of names, or the table of `prepare audit`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from src.common.errors import UserError
from src.common.progress import print_once
from src.config.schema import DataConfig
from src.data.csv_table import image_names, read_table, row_label
from src.data.formats.base import read_text
from src.data.leaky_split import is_leaky
from src.data.sample import Sample

Key = tuple[str, str]
Row = tuple[str, str, str, str]
"""Place in the file, source (empty: any), name, caption (empty: the image)."""


@dataclass(frozen=True)
class Exclusions:
    """What training leaves out.

    Attributes:
        images: (source, name).
        captions: (source, name) -> captions, without spaces at their ends.
    """

    images: frozenset[Key] = frozenset()
    captions: Mapping[Key, frozenset[str]] | None = None

    def without_captions(self, sample: Sample) -> Sample:
        """The sample without its excluded captions."""
        texts = (self.captions or {}).get((sample.source, sample.name))
        if not texts:
            return sample
        return replace(sample, captions=tuple(text for text in sample.captions if text.strip() not in texts))

    def listed(self) -> list[list[str]]:
        """All of them in one order."""
        captions = [[*key, text] for key, texts in (self.captions or {}).items() for text in texts]
        return sorted([*map(list, self.images), *captions])


def read_exclusions(config: DataConfig, samples: Sequence[Sample]) -> Exclusions:
    """What the file of data.exclude leaves out of these samples; nothing without a file.

    A name counts in the source of the column `source`, else in every source that has it.

    Args:
        config: exclude; the split, whose pairs are called PHOTO#NUMBER where it is by pairs.
        samples: of all sources.

    Raises:
        UserError: the file cannot be read, or has a name or caption that no source has.
    """
    if not config.exclude:
        return Exclusions()
    photos: dict[str, list[Sample]] = {}
    for sample in samples:
        name = sample.name.rpartition("#")[0] if is_leaky(config) else sample.name
        photos.setdefault(name, []).append(sample)
    images, captions = set(), dict[Key, set[str]]()
    for place, source, name, caption in read_rows_to_exclude(Path(config.exclude)):
        chosen = [sample for sample in photos.get(name, []) if source in ("", sample.source)]
        chosen = [sample for sample in chosen if not caption or caption in map(str.strip, sample.captions)]
        if not chosen:
            what = f"photo {name} with the caption {caption[:60]!r}" if caption else f"photo {name}"
            where = f"source {source} has" if source else "source has"
            raise UserError(f"data.exclude: {config.exclude}: {place}: no {where} {what}; correct or remove the line")
        for sample in chosen:
            if caption:
                captions.setdefault((sample.source, sample.name), set()).add(caption)
            else:
                images.add((sample.source, sample.name))
    return Exclusions(frozenset(images), {key: frozenset(texts) for key, texts in captions.items()})


def read_rows_to_exclude(path: Path) -> list[Row]:
    """The rows of a CSV with img_name and perhaps source and caption, or the names of another file's lines.

    Raises:
        UserError: it cannot be read, or a row has no name.
    """
    if path.suffix.lower() != ".csv":
        lines = enumerate(map(str.strip, read_text(path).splitlines()), 1)
        return [(f"line {number}", "", name, "") for number, name in lines if name]
    table = read_table(path, ["img_name"])
    blank = [""] * len(table)
    columns = [table[name].str.strip().tolist() if name in table else blank for name in ("source", "caption")]
    names = map(str.strip, image_names(table, path))
    places = map(row_label, range(len(table)))
    return list(zip(places, columns[0], names, columns[1], strict=True))


def leave_out(parts: Mapping[Key, str], config: DataConfig, samples: Sequence[Sample]) -> dict[Key, str]:
    """The parts without excluded images of train and val; a line on stderr counts them. The test part stays whole."""
    exclusions = read_exclusions(config, samples)
    counts = Counter(part for key, part in parts.items() if key in exclusions.images and part != "test")
    if config.exclude:
        captions = sum(len(texts) for key, texts in (exclusions.captions or {}).items() if parts.get(key) == "train")
        photos = f"{counts.total():,} photos ({counts['train']:,} train, {counts['val']:,} val)"
        print_once(f"data.exclude: {config.exclude} leaves out {photos} and {captions:,} training captions")
    return {key: part for key, part in parts.items() if part == "test" or key not in exclusions.images}
