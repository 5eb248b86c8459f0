"""Checks of the options, and scores in MLflow."""

import json
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.schema import SourceConfig, TrackConfig
from src.evaluate import main
from src.inference.submission import Submission, write_submission
from src.tracking.mlflow_client import open_client
from src.tracking.mlflow_tracker import Tracker
from tests.evaluation.truth import MOS, NAMES
from tests.tiny import make_model, tiny_config


def test_scores_are_logged_to_the_models_run(model: Path) -> None:
    with Tracker.start(TrackConfig(name="run"), Path("run"), {}, resources=0) as tracker:
        pass
    assert main(["--model", str(model), "--log", "true", "--json", "s.json", "--meteor", "false"]) == 0
    scores = json.loads(Path("s.json").read_text(encoding="utf-8"))["scores"]["all"]
    metrics = open_client().get_run(tracker.run_id).data.metrics
    assert metrics["eval/val/plcc"] == pytest.approx(scores["plcc"]["value"])
    assert metrics["eval/val/cider_d"] == pytest.approx(scores["cider_d"]["value"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--model"),
        (["--model", "run/model", "--attention", "true"], "--attention"),
        (["--model", "run/model", "--boards", "-1"], "^--boards: is -1"),
        (["--predictions", "X.csv"], "--truth"),
        (["--predictions", "X.csv", "--truth", "rated/train.csv", "--log", "true"], "^--log: a submission"),
        (["--predictions", "X.csv", "--truth", "none.csv"], "^--truth none.csv: no such file"),
        (["--predictions", "X.csv", "--truth", "blank.csv", "--boards", "2"], "^--boards: no photo"),
        (["--predictions", "huge.csv", "--truth", "rated/train.csv"], "huge.csv, row 2 .*outside -1e.15 to 1e.15"),
        (["--predictions", "X.csv", "--truth", "other.csv"], "none of its photos"),
        (["--model", "run/model", "--part", "test"], "data.test"),
        (["--model", "run/model", "--part", "dev"], "dev"),
        (["--model", "run/model", "--style", "poetry"], "rated, unrated"),
    ],
)
def test_bad_input_is_one_line(model: Path, words: list[str], message: str) -> None:
    write_submission(Path("X.csv"), Submission(NAMES, MOS, None), {})
    Path("other.csv").write_text("img_name,mos,comments\nz,5,x\n")
    Path("blank.csv").write_text("img_name,mos,comments\na,,\n")
    Path("huge.csv").write_text("img_name,mos\na,1e308\n")
    with pytest.raises(UserError, match=message) as error:
        main(words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--spice", "true"], "python -m src.prepare spice"),
        (["--glove", "none.txt"], "^--glove none.txt: no such file"),
        (["--bert", "./none"], "^--bert ./none: no such folder"),
        (["--against", "run/model"], "given twice"),
        (["--against", "typo.csv"], "^typo.csv"),
        (["--against", "data"], "^data: no model folder"),
        (["--attention", "true", "--details", "d.json"], "^--attention: .* has no attention"),
        (["--json", "data"], "^data: is a folder"),
        (["--json", "plain/s.json"], "^plain: cannot be made"),
        (["--details", "plain/d/s.json"], "^plain/d: cannot be made"),
        (["--log", "true"], "no run"),
    ],
)
def test_a_mistake_is_reported_before_any_prediction(elsewhere: Path, words: list[str], message: str) -> None:
    config = tiny_config(sources=[SourceConfig(format="samsung", path="not here", name="rated")])
    config.model.decoder.attention, config.model.decoder.image = "none", "state"
    make_model(Path("run/model"), config)
    Path("data").mkdir()
    Path("plain").touch()
    with pytest.raises(UserError, match=message) as error:
        main(["--model", "run/model", *words])
    assert "\n" not in str(error.value)
