"""Reports through the command: the file is self-contained, and its plots are in MLflow."""

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.common.errors import UserError
from src.evaluate import main as evaluate
from src.report import main
from src.tracking.mlflow_client import open_client
from tests.reporting.report_reader import read_report
from tests.tiny import make_model, tiny_config
from tests.training.test_run import make_data

SIDE_BY_SIDE = ["Scores", "Training", "Mos", "Differences", "Leaderboards", "Photos", "Captions", "Resources", "Config"]
SECTIONS = ["Scores", "Training", "Mos", "Photos", "Attention", "Embeddings", "Captions", "Resources", "Config"]


def test_a_models_report_is_self_contained(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    assert main(["--model", "run/model", "--meteor", "false", "--output", "tiny.html"]) == 0
    assert evaluate(["--model", "run/model", "--meteor", "false", "--json", "s.json"]) == 0
    answers = {photo["names"]: photo for photo in json.loads(Path("s.json").read_text())["photos"]}
    text, page = read_report(Path("tiny.html"))
    assert page.headings == SECTIONS
    assert all(one.startswith(("data:image/", "#s")) for one in page.addresses)
    photos = json.loads(re.search(r'id="images">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    assert {label.split(":")[0] for _, label in photos} == set(answers)
    assert all(answers[label.split(":")[0]]["captions"] in label for _, label in photos)
    shown = [cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), 1) for uri, _ in photos]
    assert all(one.std() > 10 for one in shown)
    assert len(page.points) == 2  # PCA and t-SNE
    for points in page.points:
        assert sorted({int(photo) for _, _, photo in points}) == list(range(len(photos)))
        assert all(0 < x < 1 and 0 < y < 1 for x, y, _ in points)
    scores = json.loads(Path("s.json").read_text())["scores"]["all"]
    assert f"{scores['cider_d']['value']:.4f} [{scores['cider_d']['low']:.4f}" in text


def test_figures_are_in_mlflow(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    main(["--model", "run/model", "--meteor", "false", "--output", "logged.html"])
    run_id = Path("run/run_id.txt").read_text()
    kept = {Path(one.path).name for one in open_client().list_artifacts(run_id, "report")}
    names = {"mos", "calibration", "residuals", "losses", "scores", "pca", "tsne", "lengths", "resources"}
    assert {"logged.html", *(f"{name}.png" for name in names)} <= kept


def test_models_side_by_side(models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(models)
    assert main(["--model", "run/model", "other/model", "--meteor", "false", "--output", "two.html"]) == 0
    _, page = read_report(Path("two.html"))
    assert page.headings == SIDE_BY_SIDE
    assert all(one.startswith(("data:image/", "#s")) for one in page.addresses)
    assert "no single run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of --model"),
        (["--model", "a", "--sweep", "b"], "give one of"),
        (["--model", "nowhere"], "nowhere"),
        (["--sweep", "nowhere"], "sweep-nowhere"),
        (["--comparison", "nowhere"], "compare-nowhere"),
        (["--model", "run/model", "--output", "run"], "^run: is a folder"),
        (["--model", "run/model", "--output", "data/train.csv/x.html"], "^data/train.csv: cannot be made"),
    ],
)
def test_bad_input_is_one_line(models: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str) -> None:
    monkeypatch.chdir(models)
    with pytest.raises(UserError, match=message) as error:
        main(words)
    assert "\n" not in str(error.value)


def test_fallbacks_are_named(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_data(Path("data"))
    config = tiny_config(captions=False)
    config.data.val = 0.5
    make_model(Path("mos"), config, styles=())
    for path in sorted(Path("data/train").iterdir())[:18]:
        path.write_bytes(path.name.encode())
    assert main(["--model", "mos", "--output", "lost.html", "--log", "false"]) == 3
    text, _ = read_report(Path("lost.html"))
    assert re.search(r'<p class="about">mos: \d+ photos have no prediction; .* in its place: 00.*, \.\.\.</p>', text)
