"""CIDEr-D against pycocoevalcap's class."""

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from src.metrics.cider import cider_d, cider_d_per_image
from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies
from tests.metrics.reference import captions, cases, scored


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
