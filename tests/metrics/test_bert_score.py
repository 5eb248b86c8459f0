"""BERTScore of a tiny random model against its formula and torchmetrics'."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
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


def test_weights_that_lack_a_layer_are_refused(bert: Path, tmp_path: Path) -> None:
    """transformers would leave the layer random; the pooler, which no score reads, may be missing."""
    shutil.copytree(bert, tmp_path / "bert")
    file = tmp_path / "bert/model.safetensors"
    state = load_file(file)
    save_file({name: t for name, t in state.items() if not name.startswith("pooler.")}, file, {"format": "pt"})
    whole, part = (bert_score(CANDIDATES, REFERENCES, str(folder)) for folder in (bert, tmp_path / "bert"))
    assert whole == pytest.approx(part)
    save_file({name: t for name, t in state.items() if "layer.1." not in name}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"--bert .*\d+ of its tensors are missing, such as encoder\.layer\.1"):
        bert_score(CANDIDATES, REFERENCES, str(tmp_path / "bert"))
