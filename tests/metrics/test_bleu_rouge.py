"""BLEU, ROUGE-L, CIDEr-D against pycocoevalcap's classes, ROUGE-1 against its definition."""

from collections import Counter

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from src.metrics.bleu_rouge import bleu, cider_d, rouge_1, rouge_l
from src.metrics.cider import cider_d_per_image
from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.ngrams import SHIFT, NgramTable
from tests.metrics.reference import captions, scored

LONG = " ".join(f"w{i % 50}" for i in range(150))
ODD = (
    ["", "a dog", "zzz yyy zzz", LONG, "a a a a a", "same words here", "", "a 3\xa01/2 cup", "x"],
    [
        ["a dog runs"],
        ["", "a dog"],
        ["nothing shared at all"],
        [LONG[30:], "w1 w2", ""],
        ["a a b", "a a a"],
        ["same words here"],
        ["", ""],
        ["a 3\xa01/2 cup of it", "3 cups"],
        ["y y y y y"],
    ],
)


def cases() -> list[tuple[list[str], list[list[str]]]]:
    return [captions(200), captions(60, per_photo=1, seed=1), captions(2, seed=2), ODD]


@pytest.mark.parametrize("case", cases())
def test_bleu_equals_pycocoevalcap(case: tuple[list[str], list[list[str]]]) -> None:
    corpus, photos = bleu(*case, tokenized=True)
    expected, expected_photos = scored(Bleu(4), *case, verbose=0)
    np.testing.assert_allclose(corpus, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(photos, expected_photos, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", cases())
def test_rouge_l_equals_pycocoevalcap(case: tuple[list[str], list[list[str]]]) -> None:
    corpus, photos = rouge_l(*case, tokenized=True)
    expected, expected_photos = scored(Rouge(), *case)
    assert corpus == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(photos, expected_photos, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", cases())
def test_cider_d_equals_pycocoevalcap(case: tuple[list[str], list[list[str]]]) -> None:
    corpus, photos = cider_d(*case, tokenized=True)
    expected, expected_photos = scored(Cider(), *case)
    assert corpus == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(photos, expected_photos, rtol=0, atol=1e-9)


def test_cider_d_of_one_photo_is_0() -> None:
    assert cider_d(["a dog"], [["a dog", "the dog"]])[0] == 0.0


def test_cider_d_of_some_photos_is_that_of_the_whole() -> None:
    candidates, references = captions(120)
    frequencies, whole = DocumentFrequencies(references), cider_d(candidates, references, tokenized=True)[1]
    picked = [7, 3, 3, 119, 0]
    corpus = Corpus([candidates[i] for i in picked], [references[i] for i in picked], tokenized=True)
    np.testing.assert_allclose(cider_d_per_image(corpus, frequencies), whole[picked], atol=1e-12)
    # Another photo's caption: as pycocoevalcap, whose document frequencies are the references'.
    swapped = candidates[::-1]
    expected = scored(Cider(), swapped, references)[1]
    found = cider_d_per_image(Corpus(swapped, references, tokenized=True), frequencies)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("block", [1, 10_000])
def test_frequencies_are_the_photos_that_have_an_ngram(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.metrics.text.document_frequency.BLOCK", block)
    references = captions(90, seed=3)[1]
    references.append(["", "only here only here", "a", references[0][0]])
    asked = NgramTable([references[0][0], "", "only here only here", f"zzz {references[5][1]} zzz", "here a"])
    words, ngrams = list(asked.words), [(word,) for word in asked.words]
    for order, found in enumerate(DocumentFrequencies(references).of(asked)):
        if order:
            ngrams = [(*ngrams[key >> SHIFT], words[key % (1 << SHIFT)]) for key in asked.keys[order - 1].tolist()]
        photos = Counter(ngram for refs in references for ngram in {n for ref in refs for n in _ngrams(ref, order + 1)})
        assert found.tolist() == [max(photos[ngram], 1) for ngram in ngrams]
        assert found.max() > 1


def _ngrams(caption: str, size: int) -> list[tuple[str, ...]]:
    words = caption.split()
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]


def test_photos_times_ngrams_may_exceed_31_bits() -> None:
    photos, words = 4000, 150
    same = [" ".join(f"w{i}" for i in range(photo * words, (photo + 1) * words)) for photo in range(photos)]
    np.testing.assert_allclose(bleu(same, [[caption] for caption in same], tokenized=True)[1], 1.0)


def test_parts_hold_the_same_photos() -> None:
    candidates, references = captions(7)
    parts = list(Corpus(candidates, references).parts(3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [c for part in parts for c in part.candidates] == Corpus(candidates, references).candidates
    assert [r for part in parts for r in part.references] == Corpus(candidates, references).references


def test_rouge_1_equals_its_definition() -> None:
    candidates, references = captions(50)
    mean, best = rouge_1(candidates, references)
    for i, (candidate, refs) in enumerate(zip(candidates, references, strict=True)):
        scores = [_f(Counter(candidate.split()), Counter(ref.split())) for ref in refs]
        assert mean[i] == pytest.approx(sum(scores) / len(scores), abs=1e-12)
        assert best[i] == pytest.approx(max(scores), abs=1e-12)


def _f(candidate: Counter, reference: Counter) -> float:
    common = (candidate & reference).total()
    precision, recall = common / candidate.total(), common / reference.total()
    return 2 * precision * recall / (precision + recall) if common else 0.0


def test_raw_captions_are_tokenised() -> None:
    raw = bleu(["A Dog, isn't it?"], [["a dog is n't it"]])[0]
    np.testing.assert_allclose(raw, bleu(["a dog is n't it"], [["a dog is n't it"]], tokenized=True)[0])


def test_unequal_counts_and_missing_references_are_refused() -> None:
    with pytest.raises(ValueError, match="2 candidates but references for 1"):
        bleu(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="photo 1 .* no reference"):
        Corpus(["a", "b"], [["a"], []])
    with pytest.raises(ValueError, match="no photos"):
        rouge_l([], [])
