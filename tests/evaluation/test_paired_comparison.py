"""Models and submissions on the same images."""

import json
from pathlib import Path

import pytest
from scipy.stats import pearsonr

from src.config.schema import SourceConfig
from src.evaluate import main
from src.inference.submission import Submission, write_submission
from tests.evaluation.truth import MOS, NAMES, write_truth
from tests.tiny import CAPTIONS, make_model, tiny_config


def test_differences_and_leaderboards_of_submissions(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_truth(Path("train.csv"))
    right, noisy = [mos + 0.1 for mos in MOS], [*MOS[::-1]]
    for name, mos in (("right.csv", right), ("noisy.csv", noisy)):
        write_submission(Path(name), Submission(NAMES, mos, [CAPTIONS[2]] * len(NAMES)), {})
    words = ["--truth", "train.csv", "--against", "noisy.csv", "--boards", "50", "--json", "s.json"]
    assert main(["--predictions", "right.csv", *words, "--meteor", "false"]) == 0
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))
    off = found["against"]["noisy.csv"]["plcc"]["value"]
    assert off == pytest.approx(1 - pearsonr(noisy, MOS).statistic)
    assert found["boards"]["stratified"]["public"]["scores"]["right.csv"]["quality"][0] == pytest.approx(1.0)
    assert found["boards"]["shifted"]["private"]["ranks"]["right.csv"][0] == 1.0
    assert "wins the private leaderboard in" in capsys.readouterr().out


def test_a_competitor_without_its_training_data(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_model(Path("away/model"), tiny_config(sources=[SourceConfig(format="samsung", path="gone", name="gone")]))
    assert main(["--model", str(model), "--against", "away/model", "--meteor", "false", "--json", "s.json"]) == 0
    assert "away/model: it is unknown whether it was trained on these photos" in capsys.readouterr().err
    assert "plcc" in json.loads(Path("s.json").read_text(encoding="utf-8"))["against"]["away/model"]
