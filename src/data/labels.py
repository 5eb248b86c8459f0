"""What a model learns from: the photos of each part that carry a label its heads learn, and the training captions."""

from collections.abc import Mapping, Sequence

from src.common.errors import UserError
from src.common.progress import print_once
from src.config.plugin_keys import decoder_class
from src.config.schema import Config, ModelConfig
from src.data.caption_cleaning import clean_samples
from src.data.exclusions import read_exclusions
from src.data.formats.base import style_names
from src.data.sample import Sample
from src.data.sources import official_splits, read_sources
from src.data.split import PARTS, Key, part_samples, split_images
from src.data.tokenizer import Tokenizer


def has_label(sample: Sample, kind: str, model: ModelConfig) -> bool:
    """Whether the head that sees features of a kind (levels or grid) has a label of the photo to learn."""
    if kind == "levels":
        return model.mos.enabled and sample.mos is not None
    return model.decoder.enabled and bool(sample.captions)


def labelled_samples(samples: Sequence[Sample], model: ModelConfig) -> list[Sample]:
    """The samples that carry a label which the model learns, in their order."""
    return [sample for sample in samples if has_label(sample, "levels", model) or has_label(sample, "grid", model)]


def labelled_split(samples: Sequence[Sample], parts: Mapping[Key, str], config: Config) -> dict[str, list[Sample]]:
    """As labelled, of train, val and test; in train alone, captions are excluded and cleaned as the config says."""
    split = {part: part_samples(samples, parts, part) for part in PARTS}
    exclusions = read_exclusions(config.data, samples)
    train = [exclusions.without_captions(sample) for sample in split["train"]]
    split["train"], changes = clean_samples(train, config.data.clean)
    total = sum(len(sample.captions) for sample in train)
    for rule, counts in changes.items():
        changed = f"changed {counts.changed:,} and removed {counts.removed:,}"
        print_once(f"data.clean.{rule}: {changed} of {total:,} training captions")
    return {part: labelled_samples(chosen, config.model) for part, chosen in split.items()}


def load_training_samples(config: Config) -> list[Sample]:
    """The training images of a config as `labelled_split` gives them. Raises UserError where they cannot be read."""
    samples = read_sources(config.data)
    split = split_images(samples, config.data, official_splits(config.data))
    return labelled_split(samples, split, config)["train"]


def require_labels(train: Sequence[Sample], model: ModelConfig) -> None:
    """Checks that each head has a label to learn from, but for a decoder that can write captions before training.

    Raises:
        UserError: no training photo has the label of a head.
    """
    if model.mos.enabled and not any(has_label(sample, "levels", model) for sample in train):
        raise UserError("no training photo has a mos: set model.mos.enabled false, or look at data.sources")
    trained = model.decoder.enabled and not decoder_class(model.decoder.kind).brings_tokenizer
    if trained and not any(has_label(sample, "grid", model) for sample in train):
        raise UserError("no training photo has a caption: set model.decoder.enabled false, or look at data.sources")


def train_tokenizer(train: Sequence[Sample], config: Config) -> Tokenizer:
    """The tokenizer of the training photos' captions.

    Raises:
        UserError: the vocabulary has no room for words, or none is frequent enough for a caption decoder to write.
    """
    captions = (text for sample in train for text in sample.captions)
    words = config.data.tokenizer
    tokenizer = Tokenizer.train(captions, words, style_names(config.data.sources))
    if not tokenizer.words and any(has_label(sample, "grid", config.model) for sample in train):
        raise UserError(
            f"data.tokenizer.min_count is {words.min_count}: no word of the training captions is seen that often; "
            "lower it"
        )
    return tokenizer
