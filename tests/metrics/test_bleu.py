"""BLEU against pycocoevalcap's class."""

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from src.metrics.bleu import bleu
from tests.metrics.reference import cases, scored


@pytest.mark.parametrize("case", cases())
def test_bleu_equals_pycocoevalcap(case: tuple[list[str], list[list[str]]]) -> None:
    corpus, photos = bleu(*case, tokenized=True)
    expected, expected_photos = scored(Bleu(4), *case, verbose=0)
    np.testing.assert_allclose(corpus, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(photos, expected_photos, rtol=0, atol=1e-9)


def test_photos_times_ngrams_may_exceed_31_bits() -> None:
    photos, words = 4000, 150
    same = [" ".join(f"w{i}" for i in range(photo * words, (photo + 1) * words)) for photo in range(photos)]
    np.testing.assert_allclose(bleu(same, [[caption] for caption in same], tokenized=True)[1], 1.0)


def test_raw_captions_are_tokenised() -> None:
    raw = bleu(["A Dog, isn't it?"], [["a dog is n't it"]])[0]
    np.testing.assert_allclose(raw, bleu(["a dog is n't it"], [["a dog is n't it"]], tokenized=True)[0])


def test_unequal_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 candidates but references for 1"):
        bleu(["a", "b"], [["a"]])
