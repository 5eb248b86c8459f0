"""Tables of captions in parts."""

import pytest

from src.metrics.text.corpus import Corpus
from tests.metrics.reference import captions


def test_parts_hold_the_same_photos() -> None:
    candidates, references = captions(7)
    parts = list(Corpus(candidates, references).parts(3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [c for part in parts for c in part.candidates] == Corpus(candidates, references).candidates
    assert [r for part in parts for r in part.references] == Corpus(candidates, references).references


def test_missing_references_are_refused() -> None:
    with pytest.raises(ValueError, match="photo 1 .* no reference"):
        Corpus(["a", "b"], [["a"], []])
    with pytest.raises(ValueError, match="no photos"):
        Corpus([], [])
