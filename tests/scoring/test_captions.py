"""BLEU, ROUGE-L, CIDEr-D against pycocoevalcap's classes, ROUGE-1 against its definition."""

from collections import Counter

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from src.scoring.captions import Corpus, bleu, cider_d, rouge_1, rouge_l
from src.scoring.cider import CiderD
from tests.scoring.reference import captions, scored

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


def test_cider_d_as_reward_scores_batches_like_the_whole() -> None:
    candidates, references = captions(120)
    names = [f"{i:04d}" for i in range(120)]
    reward = CiderD(references, names)
    whole = cider_d(candidates, references)[1]
    picked = [7, 3, 3, 119, 0]
    batch = reward.score([names[i] for i in picked], [candidates[i] for i in picked])
    np.testing.assert_allclose(batch, whole[picked], atol=1e-12)
    np.testing.assert_allclose(CiderD(references).score(range(120), candidates), whole, atol=1e-12)
    # Another photo's caption, for the same photos: as pycocoevalcap, whose document frequencies are the references'.
    swapped = candidates[::-1]
    expected = scored(Cider(), swapped, references)[1]
    np.testing.assert_allclose(reward.score(names, swapped), expected, atol=1e-9)


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
    with pytest.raises(ValueError, match="1 photos but 2 candidates"):
        CiderD([["a"]]).score([0], ["a", "b"])
    with pytest.raises(IndexError, match="0 to 0"):
        CiderD([["a"]]).score([1], ["a"])
    with pytest.raises(ValueError, match="1 names but 2"):
        CiderD([["a"], ["b"]], names=["x"])
