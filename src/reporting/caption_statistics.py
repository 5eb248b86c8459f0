"""Diversity of captions: the commonest captions, their lengths, and words that they never use."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from src.metrics.text.ptb_tokenizer import tokenize
from src.plots.caption_lengths import plot_caption_lengths
from src.reporting.html import Section, Table, Text, make_plot
from src.reporting.model_data import ModelData

MAX_CAPTIONS, MAX_UNUSED_WORDS = 15, 80


@dataclass
class CaptionStatistics:
    """Counts of captions and of their references, PTB-tokenised.

    Attributes:
        captions: caption -> number of images with it, the commonest first.
        lengths: words of each caption.
        reference_lengths: words of each reference.
        words: distinct words of the captions.
        unused_words: words of the references that no caption has -> their count, the commonest first.
    """

    captions: list[tuple[str, int]]
    lengths: list[int]
    reference_lengths: list[int]
    words: set[str]
    unused_words: list[tuple[str, int]]


def caption_statistics(captions: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionStatistics:
    """Statistics of captions, without the empty ones, and of their references."""
    captions = tokenize([caption for caption in captions if caption])
    flat_references = tokenize([reference for group in references for reference in group])
    words = {word for caption in captions for word in caption.split()}
    counts = Counter(word for reference in flat_references for word in reference.split())
    unused = [(word, count) for word, count in counts.most_common() if word not in words]
    lengths, reference_lengths = ([len(text.split()) for text in texts] for texts in (captions, flat_references))
    return CaptionStatistics(Counter(captions).most_common(), lengths, reference_lengths, words, unused)


def caption_section(models: Sequence[ModelData]) -> Section:
    """Counts of distinct captions and words, lengths, the commonest captions, and words never used."""
    section = Section("Captions")
    statistics = {
        m.name: caption_statistics(m.predictions.captions, m.predictions.references)
        for m in models
        if any(m.predictions.captions)
    }
    if not statistics:
        return section
    section.blocks.append(statistics_table(models, statistics))
    lengths = {name if len(statistics) > 1 else "model": s.lengths for name, s in statistics.items()}
    lengths["people"] = max((s.reference_lengths for s in statistics.values()), key=len)
    section.blocks.append(make_plot("lengths", "Lengths of captions", plot_caption_lengths(lengths)))
    for name, s in statistics.items():
        of_model = f" of {name}" if len(statistics) > 1 else ""
        header = [f"commonest captions{of_model}", "photos"]
        section.blocks.append(Table(header, [[caption, str(count)] for caption, count in s.captions[:MAX_CAPTIONS]]))
        words = ", ".join(f"{word} {count}" for word, count in s.unused_words[:MAX_UNUSED_WORDS])
        section.blocks.append(Text(f"Words of the references that are in no caption{of_model}, with counts: {words}"))
    return section


def statistics_table(models: Sequence[ModelData], statistics: dict[str, CaptionStatistics]) -> Table:
    """Counts of captions and words, a column for each model."""
    tokenizers = {m.name: m.model.loaded.tokenizer for m in models}
    vocabularies = {name: {tokenizers[name].word(i) for i in range(tokenizers[name].size)} for name in statistics}
    rows = {
        "captions": [len(s.lengths) for s in statistics.values()],
        "distinct captions": [len(s.captions) for s in statistics.values()],
        "distinct words": [len(s.words) for s in statistics.values()],
        "words of the model's vocabulary": [tokenizers[name].size for name in statistics],
        "of these never used": [len(vocabularies[name] - s.words) for name, s in statistics.items()],
        "words of the references never used": [len(s.unused_words) for s in statistics.values()],
    }
    return Table(["", *statistics], [[name, *(f"{count:,}" for count in counts)] for name, counts in rows.items()])
