"""Scores of submissions and models, against independent implementations."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from scipy.stats import pearsonr, spearmanr

from src.evaluate import main
from src.inference.submission import Submission, write_submission
from tests.evaluation.truth import MOS, NAMES, write_truth
from tests.tiny import CAPTIONS


def test_a_submission_against_a_table(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    references = write_truth(elsewhere / "train.csv")
    predicted = [mos + wrong for mos, wrong in zip(MOS, [0.3, -0.2, 0.9, 0.1, -1.2, 0, 0.4, -0.3], strict=True)]
    captions = [CAPTIONS[(i * i) % 4] for i in range(len(NAMES))]
    write_submission(Path("X.csv"), Submission(NAMES[::-1], predicted[::-1], captions[::-1]), {})
    assert main(["--predictions", "X.csv", "--truth", "train.csv", "--json", "X_scores.json", "--meteor", "false"]) == 0
    found = json.loads(Path("X_scores.json").read_text(encoding="utf-8"))
    scores = {name: score["value"] for name, score in found["scores"]["all"].items()}
    assert scores["plcc"] == pytest.approx(pearsonr(predicted, MOS).statistic)
    assert scores["srcc"] == pytest.approx(spearmanr(predicted, MOS).statistic)
    said = {name: [caption] for name, caption in zip(NAMES, captions, strict=True)}
    bleu, _ = Bleu(4).compute_score(references, said, verbose=0)
    assert [scores[f"bleu_{n}"] for n in (1, 2, 3, 4)] == pytest.approx(bleu, abs=1e-9)
    low, high = (found["scores"]["all"]["plcc"][key] for key in ("low", "high"))
    assert low < scores["plcc"] < high
    photos = {photo["names"]: photo for photo in found["photos"]}
    assert list(photos) == NAMES
    assert photos["00"]["mos_error"] == pytest.approx(0.9)
    assert photos["00"]["references"] == references["00"]
    printed = capsys.readouterr().out
    assert f"{scores['plcc']:.4f} [{low:.4f}, {high:.4f}]" in printed


def test_as_many_captioned_photos_as_captions(model: Path) -> None:
    """A photo that was not to be captioned is no distinct caption."""
    table = Path("rated/train.csv")
    rows = [line.rsplit(",", 1)[0] + "," for line in table.read_text(encoding="utf-8").splitlines()[1::2]]
    table.write_text("\n".join(["img_name,img_path,mos,comments", *rows]), encoding="utf-8")
    main(["--model", str(model), "--json", "s.json", "--meteor", "false"])
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))
    said = {photo["captions"] for photo in found["photos"] if photo["captions"]}
    assert {photo["captions"] for photo in found["photos"] if photo["sources"] == "rated"} == {""}
    assert found["scores"]["all"]["distinct_captions"]["value"] == len(said)
    assert np.isfinite(found["scores"]["all"]["cider_d"]["value"])
