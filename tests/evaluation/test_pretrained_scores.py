"""Scores that need a download; here with word vectors of the test."""

import json
from pathlib import Path

import numpy as np
import pytest

from src.evaluate import main
from src.inference.submission import Submission, write_submission
from tests.evaluation.truth import MOS, NAMES, write_truth
from tests.tiny import CAPTIONS


def test_glove_similarity_is_among_the_scores(elsewhere: Path) -> None:
    write_truth(elsewhere / "train.csv")
    write_submission(Path("X.csv"), Submission(NAMES, MOS, [CAPTIONS[i % 4] for i in range(len(NAMES))]), {})
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    lines = [" ".join([word, *("1" if i == j else "0" for j in range(len(words)))]) for i, word in enumerate(words)]
    Path("glove.txt").write_text("\n".join(lines), encoding="utf-8")
    given = ["--predictions", "X.csv", "--truth", "train.csv", "--meteor", "false", "--json", "s.json"]
    assert main([*given, "--glove", "glove.txt"]) == 0
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))

    def similarity(caption: str, reference: str) -> float:
        a, b = (np.array([text.split().count(word) for word in words]) for text in (caption, reference))
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    own = [(1 + similarity(CAPTIONS[i % 4], CAPTIONS[(i + 1) % 4])) / 2 for i in range(len(NAMES))]
    assert [photo["similarity_glove"] for photo in found["photos"]] == pytest.approx(own, abs=1e-6)
    assert found["scores"]["all"]["similarity_glove"]["value"] == pytest.approx(np.mean(own), abs=1e-6)
