"""Diversity of captions."""

from src.reporting.caption_statistics import caption_statistics


def test_words_and_captions_are_counted() -> None:
    captions, references = ["a dog", "A dog.", "a cat", ""], [["a red dog"], ["the dog"], ["a red cat"], []]
    statistics = caption_statistics(captions, references)
    assert statistics.captions == [("a dog", 2), ("a cat", 1)]
    assert statistics.lengths == [2, 2, 2]
    assert statistics.reference_lengths == [3, 2, 3]
    assert statistics.words == {"a", "dog", "cat"}
    assert statistics.unused_words == [("red", 2), ("the", 1)]
