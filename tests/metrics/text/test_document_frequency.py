"""Document frequencies against a plain count."""

from collections import Counter

import pytest

from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.ngrams import SHIFT, NgramTable
from tests.metrics.reference import captions


@pytest.mark.parametrize("block", [1, 10_000])
def test_frequencies_are_the_photos_that_have_an_ngram(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.metrics.text.document_frequency.BLOCK", block)
    references = captions(90, seed=3)[1]
    references.append(["", "only here only here", "a", references[0][0]])
    asked = NgramTable([references[0][0], "", "only here only here", f"zzz {references[5][1]} zzz", "here a"])
    words, ngrams = list(asked.words), [(word,) for word in asked.words]
    for order, found in enumerate(DocumentFrequencies(references).image_counts(asked)):
        if order:
            ngrams = [(*ngrams[key >> SHIFT], words[key % (1 << SHIFT)]) for key in asked.keys[order - 1].tolist()]
        photos = Counter(ngram for refs in references for ngram in {n for ref in refs for n in _ngrams(ref, order + 1)})
        assert found.tolist() == [max(photos[ngram], 1) for ngram in ngrams]
        assert found.max() > 1


def _ngrams(caption: str, size: int) -> list[tuple[str, ...]]:
    words = caption.split()
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
