"""Semantic similarity of a tiny random model and of a few word vectors against its formula."""

from pathlib import Path

import numpy as np
import pytest

from src.common.errors import UserError
from src.metrics.sentence_similarity import glove_similarity, sentence_similarity
from tests.metrics.pretrained import CANDIDATES, REFERENCES, layer


def test_sentence_similarity_is_the_cosine_of_mean_vectors(bert: Path) -> None:
    def alike(one: str, other: str) -> float:
        a, b = layer(bert, one).mean(0), layer(bert, other).mean(0)
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    found = sentence_similarity(CANDIDATES, REFERENCES, str(bert))
    assert found[0] == pytest.approx((alike(CANDIDATES[0], REFERENCES[0][0]) + 1) / 2, abs=1e-5)
    assert found[1] == pytest.approx(alike(CANDIDATES[1], REFERENCES[1][0]), abs=1e-5)


def test_glove_similarity(tmp_path: Path) -> None:
    file = tmp_path / "glove.txt"
    file.write_text("dark 1 0\nscene 0 1\nbright 0 2\na 0 0\ncalm 0 0\nbad\n", encoding="utf-8")
    found = glove_similarity(["a dark scene", "unheard"], [["a bright scene", "dark"], ["scene"]], file)
    assert found == pytest.approx([(1 / 2**0.5 + 1 / 2**0.5) / 2, 0.0])
    with pytest.raises(UserError, match="none of the captions"):
        glove_similarity(["x"], [["y"]], file)
    file.write_text("dark 1 0\nscene 0 1\nscene name@domain.com 1 0\n")  # a word with spaces, as Common Crawl's have
    assert glove_similarity(["dark"], [["scene"]], file) == pytest.approx([0.0])
    file.write_text("dark 1 0\nscene 1\n")
    with pytest.raises(UserError, match="line 2 has 1 numbers, not 2"):
        glove_similarity(["dark"], [["scene"]], file)
    with pytest.raises(UserError, match="cannot be read"):
        glove_similarity(["dark"], [["scene"]], tmp_path / "none.txt")
