"""What is in a data set, and what is wrong with it, before any time is spent on training."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from src.common.errors import UserError
from src.common.files import stat_file
from src.config.plugin_keys import decoder_class
from src.config.schema import Config, DataConfig, ModelConfig, SourceConfig
from src.data.formats import flickr, samsung
from src.data.formats.base import source_name
from src.data.image_hashes import map_in_threads
from src.data.image_io import ImageError, decode_image
from src.data.labels import labelled_samples, labelled_split, require_labels, train_tokenizer
from src.data.leaky_split import LEAKING, is_leaky
from src.data.sample import Sample
from src.data.sources import format_module, official_splits, read_sources
from src.data.split import PARTS, Key, planned_split

EXAMPLES = 5
HUGE = 25_000_000  # pixels; decoding one takes longer than a training step
SHORT, LONG = 3, 50  # words of a caption
MOS_RANGE = (0.0, 10.0)
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]")


@dataclass
class DataProblem:
    """One kind of thing that is wrong.

    Attributes:
        what: the kind, in a few words.
        count: how often.
        examples: the first of them, at most EXAMPLES.
        remedy: what to do.
        fatal: training would go wrong.
    """

    what: str
    count: int
    examples: list[str]
    remedy: str
    fatal: bool = False

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        shown = f": {', '.join(self.examples)}{more}" if self.examples else ""
        return f"{'ERROR  ' if self.fatal else 'warning'} {self.count:,} {self.what}{shown}\n        -> {self.remedy}"


@dataclass
class DataReport:
    """What `check` found.

    Attributes:
        contents: rows of a table, its header first: photos, captions and parts of each source.
        mos: likewise: the distribution of mos in each source that has any.
        problems: fatal ones first.
    """

    contents: list[list[str]]
    mos: list[list[str]]
    problems: list[DataProblem] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether training would go wrong."""
        return any(problem.fatal for problem in self.problems)

    def __str__(self) -> str:
        blocks = [align_columns(self.contents)]
        if len(self.mos) > 1:
            blocks.append(align_columns(self.mos))
        return "\n\n".join([*blocks, "\n".join(map(str, self.problems)) or "no problems found"])


@dataclass(frozen=True)
class ImageCheck:
    """What one look at a file gave: its bytes' SHA-256, its pixels, and why it is no photo."""

    digest: str | None = None
    pixels: int = 0
    reason: str | None = None
    missing: bool = False


def check_data(config: Config, whole: bool = True) -> DataReport:
    """Reads every table and decodes every photo of the config's data sets. Writes nothing.

    Args:
        config: data sets, and the heads that are to learn from them.
        whole: these are all that the heads learn from; else a head without labels here is only warned of.

    Raises:
        UserError: a table cannot be read at all.
    """
    data = config.data
    samples = read_sources(data)
    given = official_splits(data)
    looks = map_in_threads(lambda sample: _look(sample.path), samples, "reading photos")
    digests = [look.digest for look in looks]
    parts = planned_split(samples, data, given, digests)
    by_source: dict[str, list[Sample]] = {source_name(source): [] for source in data.sources}
    for sample in samples:
        by_source[sample.source].append(sample)
    official = {(source, name): part for source, split in given.items() for name, part in split.items()}
    problems = [
        *_photo_problems(samples, looks, is_leaky(data)),
        *_leaks(samples, digests, official, parts, is_leaky(data)),
        _listed_twice(data),
        *_label_problems(config, samples, parts, whole),
    ]
    for source in data.sources:
        problems += _mos_problems(by_source[source_name(source)], source)
        problems += _caption_problems(by_source[source_name(source)])
        problems.append(_empty_captions(source))
    found = sorted((p for p in problems if p.count), key=lambda p: not p.fatal)
    return DataReport(_contents(by_source, parts), _mos_rows(by_source), found)


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _look(path: Path) -> ImageCheck:
    try:
        stat_file(path)
        data = path.read_bytes()
    except FileNotFoundError:
        return ImageCheck(missing=True)
    except OSError as error:
        return ImageCheck(reason=f"cannot be read ({error.strerror})")
    digest = hashlib.sha256(data).hexdigest()
    try:
        height, width = decode_image(data, path).shape[:2]
    except ImageError as error:
        return ImageCheck(digest, reason=error.reason)
    return ImageCheck(digest, height * width)


def _problem(what: str, examples: Iterable[str], remedy: str, fatal: bool = False) -> DataProblem:
    found = list(examples)
    return DataProblem(what, len(found), found[:EXAMPLES], remedy, fatal)


def _photo_problems(samples: Sequence[Sample], looks: Sequence[ImageCheck], pairs: bool) -> list[DataProblem]:
    both = list(zip(samples, looks, strict=True))
    missing = [str(sample.path) for sample, look in both if look.missing]
    broken = [f"{sample.path} ({look.reason})" for sample, look in both if look.reason]
    huge = [f"{sample.path} ({look.pixels / 1e6:.0f} million)" for sample, look in both if look.pixels > HUGE]
    same = [
        f"{' = '.join(f'{sample.name} in {sample.path}' for sample in group[:3])}{_differing(group)}"
        for group in _by_digest(samples, [look.digest for look in looks])
        if _copies(group, pairs)
    ]
    return [
        _problem("photos are missing", missing, "copy them there, or correct path, images or img_path", True),
        _problem("files are no photo or truncated", broken, "copy them again, or remove their rows", True),
        _problem(f"photos have over {HUGE // 10**6} million pixels", huge, "shrink them, or training waits for them"),
        _problem("photos stand under several names", same, "they stay on one side of a split; remove copies"),
    ]


def _copies(group: Sequence[Sample], pairs: bool) -> bool:
    """Whether photos of the same bytes are several files, or one that a data set calls by several names."""
    return len({sample.path for sample in group}) > 1 or (not pairs and len({s.source for s in group}) < len(group))


def _differing(group: Sequence[Sample]) -> str:
    mos = sorted({sample.mos for sample in group if sample.mos is not None})
    return f" (mos {' and '.join(f'{value:g}' for value in mos[:3])})" if len(mos) > 1 else ""


def _by_digest(samples: Sequence[Sample], digests: Sequence[str | None]) -> list[list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample, digest in zip(samples, digests, strict=True):
        if digest:
            groups[digest].append(sample)
    return [group for group in groups.values() if len(group) > 1]


def _leaks(
    samples: Sequence[Sample],
    digests: Sequence[str | None],
    official: Mapping[Key, str],
    parts: Mapping[Key, str],
    pairs: bool,
) -> list[DataProblem]:
    groups = _by_digest(samples, digests)
    if pairs:
        remedy = "set split: official or random, unless you want to measure this leak"
        return [_problem(f"photos are on two sides of split {LEAKING}", _crossing(groups, parts), remedy, True)]
    return [
        _problem(
            "photos are on two sides of an official split",
            _crossing(groups, official),
            "training leaves out its copy; remove it from the list to be rid of this",
            True,
        ),
        _problem(
            "photos are on two sides of the split on disk",
            _crossing(groups, parts),
            "photos changed since it was made: delete the file in data.split_dir, and it is made anew",
            True,
        ),
    ]


def _crossing(groups: Sequence[Sequence[Sample]], parts: Mapping[Key, str]) -> list[str]:
    found = []
    for group in groups:
        sides = [(sample.name, part) for sample in group if (part := parts.get((sample.source, sample.name)))]
        if len({part for _, part in sides}) > 1:
            found.append(" = ".join(f"{name} ({part})" for name, part in sides[:3]))
    return found


def _listed_twice(config: DataConfig) -> DataProblem:
    twice: list[str] = []
    for source in config.sources:
        if source.split == "official" and source.format in flickr.CAPTIONS:
            counts = Counter(name for _, name in flickr.read_lists(source))
            twice += [name for name, count in counts.items() if count > 1]
    return _problem("photos are in two official lists", twice, "remove each from one of the lists", True)


def _label_problems(
    config: Config, samples: Sequence[Sample], parts: Mapping[Key, str], whole: bool
) -> list[DataProblem]:
    """Where training finds nothing to learn from or to be scored on."""
    everything = ["all sources together"]
    labels = _labels(config.model)
    if not labelled_samples(samples, config.model):
        what = f"data set has no {labels}" if samples else "data set has no photos"
        remedy = "fill in the columns mos or comments, or name the caption file with `captions`"
        return [_problem(what, everything, remedy, True)]
    learned = labelled_split(samples, parts, config.model)
    remedies = {"train": "lower data.val and data.test", "val": "raise data.val, or lower data.folds"}
    empty = [
        _problem(f"split has no {part} photos with {labels}", everything, f"{remedy}, or set split: random", True)
        for part, remedy in remedies.items()
        if not learned[part]
    ]
    train = learned["train"]
    return [*empty, *([_head_problem(config, train, whole)] if train else []), _word_problem(config, train)]


def _labels(model: ModelConfig) -> str:
    return " or ".join(name for name, head in (("mos", model.mos), ("captions", model.decoder)) if head.enabled)


def _head_problem(config: Config, train: Sequence[Sample], whole: bool) -> DataProblem:
    wrong = _refusal(lambda: require_labels(train, config.model))
    return _problem("head has nothing to learn from", wrong, "train the other head alone, or add the labels", whole)


def _word_problem(config: Config, train: Sequence[Sample]) -> DataProblem:
    ready = decoder_class(config.model.decoder.kind).brings_tokenizer
    wrong = [] if ready else _refusal(lambda: train_tokenizer(train, config))
    return _problem("tokenizer does not go with the training captions", wrong, "correct data.tokenizer", True)


def _refusal(step: Callable[[], object]) -> list[str]:
    """Why training would refuse a step; nothing where it would not."""
    try:
        step()
    except UserError as error:
        return [str(error)]
    return []


def _mos_problems(samples: Sequence[Sample], source: SourceConfig) -> list[DataProblem]:
    known = [(sample.name, sample.mos) for sample in samples if sample.mos is not None]
    wild = [f"{name} ({mos})" for name, mos in known if not np.isfinite(mos)]
    low, high = MOS_RANGE
    outside = [f"{name} ({mos:g})" for name, mos in known if np.isfinite(mos) and not low <= mos <= high]
    differing = samsung.conflicting_mos(source) if source.format == "samsung" else {}
    rows = [f"{name} ({' and '.join(f'{value:g}' for value in mos[:3])})" for name, mos in differing.items()]
    return [
        _problem("mos are not finite", wild, "correct them or leave them empty", True),
        _problem(f"mos are outside {low:g}..{high:g}", outside, "check their scale; they are used as they are"),
        _problem("photos have rows with different mos", rows, "their mean is used; correct the rows"),
    ]


def _caption_problems(samples: Sequence[Sample]) -> list[DataProblem]:
    if not any(sample.captions for sample in samples):
        return []
    pairs = [(sample, text) for sample in samples for text in sample.captions]
    words = [len(text.split()) for _, text in pairs]
    foreign = [pair for pair in pairs if not pair[1].isascii() and any(c > "\x7f" and c.isalpha() for c in pair[1])]
    return [
        _problem(
            f"photos of {samples[0].source} have no captions",
            (sample.name for sample in samples if not sample.captions),
            "they train no captions; nothing to do where captions are withheld",
        ),
        _problem(
            f"captions have fewer than {SHORT} words",
            (_shown(pair) for pair, count in zip(pairs, words, strict=True) if count < SHORT),
            "correct or remove them",
        ),
        _problem(
            f"captions have more than {LONG} words",
            (_shown(pair) for pair, count in zip(pairs, words, strict=True) if count > LONG),
            "they are cut to data.tokenizer.max_length; shorten them",
        ),
        _problem("captions have letters outside ASCII", map(_shown, foreign), "check that they are English"),
        _problem(
            "captions have control or replacement characters",
            (_shown(pair) for pair in pairs if CONTROL.search(pair[1])),
            "save the table as UTF-8 without line breaks in captions",
        ),
        _problem(
            "photos have the same caption twice",
            (sample.name for sample in samples if len(set(sample.captions)) < len(sample.captions)),
            "remove the second, or it counts double",
        ),
        _common(samples),
    ]


def _empty_captions(source: SourceConfig) -> DataProblem:
    """Captions without text of photos that have others; a photo that has none is another matter."""
    written = format_module(source).raw_captions(source)
    empty = [name for name, texts in written.items() if any(texts) for text in texts if not text]
    return _problem("captions are empty", empty, "fill them in or remove them; they are left out")


def _common(samples: Sequence[Sample]) -> DataProblem:
    """Captions that a quarter of the photos share: the challenge's sample submission has one for all."""
    counts = Counter(text for sample in samples for text in set(sample.captions))
    least = max(20, len(samples) // 4)
    often = [f"{text[:60]!r} ({count} photos)" for text, count in counts.most_common(EXAMPLES) if count >= least]
    return _problem("captions stand under many photos", often, "check that they are no placeholders")


def _shown(pair: tuple[Sample, str]) -> str:
    sample, text = pair
    return f"{sample.name} {text[:40]!r}"


def _contents(by_source: Mapping[str, Sequence[Sample]], parts: Mapping[Key, str]) -> list[list[str]]:
    rows = [["source", "photos", "with mos", "with captions", "captions", "a photo (min mean max)", *PARTS, "no part"]]
    for source, samples in by_source.items():
        counts = [len(sample.captions) for sample in samples] or [0]
        split = Counter(parts.get((sample.source, sample.name), "") for sample in samples)
        numbers = [
            len(samples),
            sum(sample.mos is not None for sample in samples),
            sum(count > 0 for count in counts),
            sum(counts),
        ]
        spread = f"{min(counts)} {np.mean(counts):.2f} {max(counts)}"
        rows.append([source, *map(_number, numbers), spread, *(_number(split[part]) for part in [*PARTS, ""])])
    return rows


def _mos_rows(by_source: Mapping[str, Sequence[Sample]]) -> list[list[str]]:
    rows = [["mos", "photos", "min", "5 %", "25 %", "50 %", "75 %", "95 %", "max", "mean", "sd"]]
    for source, samples in by_source.items():
        known = [sample.mos for sample in samples if sample.mos is not None]
        mos = np.array([value for value in known if np.isfinite(value)])
        if mos.size:
            values = [*np.quantile(mos, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]), mos.mean(), mos.std()]
            rows.append([source, _number(mos.size), *(f"{value:.3f}" for value in values)])
    return rows


def _number(value: int) -> str:
    return f"{value:,}"
