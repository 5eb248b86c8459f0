"""BERTScore of a tiny random model against its formula and torchmetrics'."""

from pathlib import Path

import numpy as np
import pytest
from torchmetrics.functional.text.bert import bert_score as torchmetrics_bert

from src.common.errors import UserError
from src.metrics.bert_score import bert_score
from tests.metrics.pretrained import CANDIDATES, REFERENCES, layer


def test_bert_score_is_greedy_matching_of_words(bert: Path) -> None:
    def f1(said: str, written: str) -> float:
        a, b = (layer(bert, text)[1:-1] for text in (said, written))  # without [CLS] and [SEP]
        alike = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
        precision, recall = alike.max(1).mean(), alike.max(0).mean()
        return 2 * precision * recall / (precision + recall)

    found = bert_score(CANDIDATES, REFERENCES, str(bert))
    assert found[0] == pytest.approx(1.0, abs=1e-4)  # one of its references is the same caption
    assert found[1] == pytest.approx(f1(CANDIDATES[1], REFERENCES[1][0]), abs=1e-4)
    theirs = torchmetrics_bert(CANDIDATES[1:], REFERENCES[1], model_name_or_path=str(bert), num_layers=2, max_length=64)
    assert found[1] == pytest.approx(float(theirs["f1"]), abs=1e-4)


def test_a_model_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--bert .*: no such folder"):
        bert_score(CANDIDATES, REFERENCES, str(tmp_path / "none"))
