"""ROUGE-L against pycocoevalcap's class, ROUGE-1 against its definition."""

from collections import Counter

import numpy as np
import pytest
from pycocoevalcap.rouge.rouge import Rouge

from src.metrics.rouge import rouge_1, rouge_l
from tests.metrics.reference import captions, cases, scored


@pytest.mark.parametrize("case", cases())
def test_rouge_l_equals_pycocoevalcap(case: tuple[list[str], list[list[str]]]) -> None:
    corpus, photos = rouge_l(*case, tokenized=True)
    expected, expected_photos = scored(Rouge(), *case)
    assert corpus == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(photos, expected_photos, rtol=0, atol=1e-9)


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
