"""The data check: what is wrong with data sets, before any time is spent on training."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.common.errors import UserError
from src.common.files import stat_file
from src.config.schema import Config, ModelConfig, SourceConfig
from src.data.caption_cleaning import changes_of_all_rules
from src.data.formats.base import is_missing, source_name
from src.data.image_hashes import map_in_threads
from src.data.image_io import ImageError, decode_image
from src.data.labels import labelled_samples, labelled_split, require_labels, train_tokenizer
from src.data.leaky_split import LEAKING, is_leaky
from src.data.sample import Sample
from src.data.sources import find_format_problems, official_splits, read_raw_captions, read_sources
from src.data.split import TRAIN_ONLY, Key, part_samples, planned_split
from src.data.validation_report import EXAMPLES, DataProblem, DataReport, contents_table, mos_table

HUGE = 25_000_000  # pixels; decoding one takes longer than a training step
SHORT, LONG = 3, 50  # words of a caption
MOS_RANGE = (0.0, 10.0)
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]")


@dataclass(frozen=True)
class ImageCheck:
    """One file: its bytes' SHA-256, its pixels, and why it is no image."""

    digest: str | None = None
    pixels: int = 0
    reason: str | None = None
    missing: bool = False


def check_data(config: Config, whole: bool = True) -> DataReport:
    """Reads every table and decodes every image of the config's data sets. Writes nothing.

    Args:
        config: data sets, and the heads that are to learn from them.
        whole: these are all that the heads learn from; else a head without labels here is only warned of.

    Raises:
        UserError: a table cannot be read at all.
    """
    data = config.data
    samples, splits = read_sources(data), official_splits(data)
    checks = map_in_threads(lambda sample: check_file(sample.path), samples, "reading photos")
    digests = [check.digest for check in checks]
    parts = planned_split(samples, data, splits, digests)
    by_source: dict[str, list[Sample]] = {source_name(source): [] for source in data.sources}
    for sample in samples:
        by_source[sample.source].append(sample)
    named = ((source, name, part) for source, split in splits.items() for name, part in split.items())
    official = {(source, name): part for source, name, part in named if part != TRAIN_ONLY}
    problems = [
        *_image_problems(samples, checks, is_leaky(data)),
        *_leaks(_by_digest(samples, digests), official, parts, is_leaky(data)),
        *_label_problems(config, samples, parts, whole),
    ]
    for source in data.sources:
        problems += mos_problems(by_source[source_name(source)])
        problems += find_format_problems(source)
        problems += _caption_problems(by_source[source_name(source)])
        problems.append(_empty_captions(source))
    problems = sorted((p for p in problems if p.count), key=lambda p: not p.fatal)
    cleaning = changes_of_all_rules(part_samples(samples, parts, "train"))
    return DataReport(contents_table(by_source, parts), mos_table(by_source), cleaning, problems)


def check_file(path: Path) -> ImageCheck:
    """Reads and decodes one image file."""
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


def _image_problems(samples: Sequence[Sample], checks: Sequence[ImageCheck], pairs: bool) -> list[DataProblem]:
    both = list(zip(samples, checks, strict=True))
    missing = [str(sample.path) for sample, check in both if check.missing]
    broken = [f"{sample.path} ({check.reason})" for sample, check in both if check.reason]
    huge = [f"{sample.path} ({check.pixels / 1e6:.0f} million)" for sample, check in both if check.pixels > HUGE]
    copies = [
        f"{' = '.join(f'{sample.name} in {sample.path}' for sample in group[:3])}{_conflicting_mos(group)}"
        for group in _by_digest(samples, [check.digest for check in checks])
        if _are_copies(group, pairs)
    ]
    problem = DataProblem.of
    return [
        problem("photos are missing", missing, "copy them there, or correct path, images or img_path", True),
        problem("files are no photo or truncated", broken, "copy them again, or remove their rows", True),
        problem(f"photos have over {HUGE // 10**6} million pixels", huge, "shrink them, or training waits for them"),
        problem("photos stand under several names", copies, "they stay on one side of a split; remove copies"),
    ]


def _are_copies(group: Sequence[Sample], pairs: bool) -> bool:
    """Whether images of the same bytes are several files, or one that a data set calls by several names."""
    return len({sample.path for sample in group}) > 1 or (not pairs and len({s.source for s in group}) < len(group))


def _conflicting_mos(group: Sequence[Sample]) -> str:
    mos = sorted({sample.mos for sample in group if sample.mos is not None})
    return f" (mos {' and '.join(f'{value:g}' for value in mos[:3])})" if len(mos) > 1 else ""


def _by_digest(samples: Sequence[Sample], digests: Sequence[str | None]) -> list[list[Sample]]:
    """Groups of several samples whose files hold the same bytes."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample, digest in zip(samples, digests, strict=True):
        if digest:
            groups[digest].append(sample)
    return [group for group in groups.values() if len(group) > 1]


def _leaks(
    groups: Sequence[Sequence[Sample]], official: Mapping[Key, str], parts: Mapping[Key, str], pairs: bool
) -> list[DataProblem]:
    if pairs:
        what, remedy = LEAKING, "set split: official or random, unless you want to measure this leak"
        return [DataProblem.of(f"photos are on two sides of split {what}", _crossing(groups, parts), remedy, True)]
    return [
        DataProblem.of(
            "photos are on two sides of an official split",
            _crossing(groups, official),
            "training leaves out its copy; remove it from the list to be rid of this",
            True,
        ),
        DataProblem.of(
            "photos are on two sides of the split on disk",
            _crossing(groups, parts),
            "photos changed since it was made: delete the file in data.split_dir, and it is made anew",
            True,
        ),
    ]


def _crossing(groups: Sequence[Sequence[Sample]], parts: Mapping[Key, str]) -> list[str]:
    """The groups whose images are in several parts, as text."""
    sides = [[(s.name, part) for s in group if (part := parts.get((s.source, s.name)))] for group in groups]
    return [
        " = ".join(f"{name} ({part})" for name, part in side[:3])
        for side in sides
        if len({part for _, part in side}) > 1
    ]


def _label_problems(
    config: Config, samples: Sequence[Sample], parts: Mapping[Key, str], whole: bool
) -> list[DataProblem]:
    """Where training has nothing to learn from or to be scored on."""
    where, labels = ["all sources together"], _label_names(config.model)
    if not labelled_samples(samples, config.model):
        what = f"data set has no {labels}" if samples else "data set has no photos"
        remedy = "fill in the columns mos or comments, or name the caption file with `captions`"
        return [DataProblem.of(what, where, remedy, True)]
    labelled = labelled_split(samples, parts, config)
    remedies = {"train": "lower data.val and data.test", "val": "raise data.val, or lower data.folds"}
    empty = [
        DataProblem.of(f"split has no {part} photos with {labels}", where, f"{remedy}, or set split: random", True)
        for part, remedy in remedies.items()
        if not labelled[part]
    ]
    train = labelled["train"]
    return [*empty, *([_head_problem(config, train, whole)] if train else []), _tokenizer_problem(config, train)]


def _label_names(model: ModelConfig) -> str:
    return " or ".join(name for name, head in (("mos", model.mos), ("captions", model.decoder)) if head.enabled)


def _head_problem(config: Config, train: Sequence[Sample], whole: bool) -> DataProblem:
    reasons = _refusal(lambda: require_labels(train, config.model))
    return DataProblem.of(
        "head has nothing to learn from", reasons, "train the other head alone, or add the labels", whole
    )


def _tokenizer_problem(config: Config, train: Sequence[Sample]) -> DataProblem:
    pretrained = config.model.decoder.kind == "blip"  # which brings its own tokenizer
    reasons = [] if pretrained else _refusal(lambda: train_tokenizer(train, config))
    what = "tokenizer does not go with the training captions"
    return DataProblem.of(what, reasons, "correct data.tokenizer", True)


def _refusal(step: Callable[[], object]) -> list[str]:
    """Why training would refuse a step; empty where it would not."""
    try:
        step()
    except UserError as error:
        return [str(error)]
    return []


def mos_problems(samples: Sequence[Sample]) -> list[DataProblem]:
    """mos that no training can use, or that have an unusual scale."""
    known = [(sample.name, sample.mos) for sample in samples if sample.mos is not None]
    infinite = [f"{name} ({mos})" for name, mos in known if not np.isfinite(mos)]
    low, high = MOS_RANGE
    outside = [f"{name} ({mos:g})" for name, mos in known if np.isfinite(mos) and not low <= mos <= high]
    remedy = "check their scale; they are used as they are"
    return [
        DataProblem.of("mos are not finite", infinite, "correct them or leave them empty", True),
        DataProblem.of(f"mos are outside {low:g}..{high:g}", outside, remedy),
    ]


def _caption_problems(samples: Sequence[Sample]) -> list[DataProblem]:
    pairs = [(sample, text) for sample in samples for text in sample.captions]
    if not pairs:
        return []
    words = [(pair, len(pair[1].split())) for pair in pairs]
    foreign = [pair for pair in pairs if not pair[1].isascii() and any(c > "\x7f" and c.isalpha() for c in pair[1])]
    repeated = [sample.name for sample in samples if len(set(sample.captions)) < len(sample.captions)]
    problem = DataProblem.of
    return [
        problem(
            f"photos of {samples[0].source} have no captions",
            (sample.name for sample in samples if not sample.captions),
            "they train no captions; nothing to do where captions are withheld",
        ),
        problem(
            f"captions have fewer than {SHORT} words",
            (_quote(pair) for pair, count in words if count < SHORT),
            "correct or remove them",
        ),
        problem(
            f"captions have more than {LONG} words",
            (_quote(pair) for pair, count in words if count > LONG),
            "they are cut to data.tokenizer.max_length; shorten them",
        ),
        problem("captions have letters outside ASCII", map(_quote, foreign), "check that they are English"),
        problem(
            "captions have control or replacement characters",
            (_quote(pair) for pair in pairs if CONTROL.search(pair[1])),
            "save the table as UTF-8 without line breaks in captions",
        ),
        problem("photos have the same caption twice", repeated, "remove the second, or it counts double"),
        _placeholders(samples),
    ]


def _empty_captions(source: SourceConfig) -> DataProblem:
    """Missing captions of images that have others; an image that has none is another matter."""
    captions = read_raw_captions(source)
    missing = {name: [text for text in texts if is_missing(text)] for name, texts in captions.items()}
    cases = [name for name, texts in captions.items() if len(missing[name]) < len(texts) for _ in missing[name]]
    return DataProblem.of("captions are empty or nan", cases, "fill them in or remove them; they are left out")


def _placeholders(samples: Sequence[Sample]) -> DataProblem:
    """Captions that a quarter of the images share: the challenge's sample submission has one for all."""
    counts = Counter(text for sample in samples for text in set(sample.captions))
    least = max(20, len(samples) // 4)
    often = [f"{text[:60]!r} ({count} photos)" for text, count in counts.most_common(EXAMPLES) if count >= least]
    return DataProblem.of("captions stand under many photos", often, "check that they are no placeholders")


def _quote(pair: tuple[Sample, str]) -> str:
    sample, text = pair
    return f"{sample.name} {text[:40]!r}"
