"""Reports through the command: everything is in one file, and its figures are in MLflow."""

import base64
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import optuna
import pytest
import yaml

from src.common.errors import UserError
from src.common.files import write_text
from src.compare import main as compare
from src.config.schema import TrackConfig, to_dict
from src.evaluate import main as evaluate
from src.evaluation.score_table import score_cell
from src.metrics.compute import Score
from src.report import main
from src.reporting.gallery import pick_examples
from src.reporting.html import LIMIT, Gallery, GalleryPhoto, Page, Section, write_page
from src.reporting.images import photo_uri
from src.tracking.mlflow_client import open_client
from src.tracking.mlflow_tracker import Tracker
from src.tuning.comparison_config import ComparisonConfig, VariantConfig
from src.tuning.comparison_table import VariantRow
from src.tuning.study import study_storage
from src.tuning.sweep_config import trial_name
from tests.tiny import make_model, tiny_config
from tests.training.test_run import experiment, make_data

SIDE_BY_SIDE = ["Scores", "Training", "Mos", "Differences", "Boards", "Photos", "Captions", "Resources", "Config"]
SECTIONS = ["Scores", "Training", "Mos", "Photos", "Attention", "Embeddings", "Captions", "Resources", "Config"]


class Reader(HTMLParser):
    """What a page shows and what it needs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.addresses: list[str] = []
        self.points: list[list] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.points += [json.loads(value or "") for name, value in attrs if name == "data-points"]

    def handle_data(self, data: str) -> None:
        if self.inside == "h2" and data.strip():
            self.headings.append(data)


def read(path: Path) -> tuple[str, Reader]:
    text = path.read_text(encoding="utf-8")
    return text, Reader(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny data, two models of it, of which `run` has a run in MLflow that logged something."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        make_data(folder / "data")
        config = tiny_config()
        config.data.val = 0.9
        make_model(folder / "run/model", config)
        make_model(folder / "other/model", config, seed=1)
        with Tracker.start(TrackConfig(name="run"), Path("run"), {}, resources=0) as tracker:
            for step in range(3):
                tracker.log_metrics({"train/loss": 3.0 - step, "val/loss": 4.0 - step, "val/cider_d": step}, step)
                tracker.log_metrics({"system/cpu_percent": 50.0, "system/memory_gb": 1.0 + step}, step * 10)
    return folder


def test_a_models_report_needs_nothing_else(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    assert main(["--model", "run/model", "--meteor", "false", "--output", "tiny.html"]) == 0
    assert evaluate(["--model", "run/model", "--meteor", "false", "--json", "s.json"]) == 0
    answers = {photo["names"]: photo for photo in json.loads(Path("s.json").read_text())["photos"]}
    text, page = read(Path("tiny.html"))
    assert page.headings == SECTIONS
    assert all(one.startswith(("data:image/", "#s")) for one in page.addresses)
    photos = json.loads(re.search(r'id="photos">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
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


def test_figures_are_in_mlflow(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    main(["--model", "run/model", "--meteor", "false", "--output", "logged.html"])
    run_id = Path("run/run_id.txt").read_text()
    kept = {Path(one.path).name for one in open_client().list_artifacts(run_id, "report")}
    names = {"mos", "calibration", "residuals", "losses", "scores", "pca", "tsne", "lengths", "resources"}
    assert {"logged.html", *(f"{name}.png" for name in names)} <= kept


def test_models_side_by_side(made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(made)
    assert main(["--model", "run/model", "other/model", "--meteor", "false", "--output", "two.html"]) == 0
    _, page = read(Path("two.html"))
    assert page.headings == SIDE_BY_SIDE
    assert all(one.startswith(("data:image/", "#s")) for one in page.addresses)
    assert "no single run" in capsys.readouterr().err


def test_points_lie_where_the_figure_has_them() -> None:
    from src.plots.report_figures import embedding_scatter
    from src.reporting.images import figure_png, point_positions

    points = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, -1.0], [2.0, 2.0], [-1.0, 1.0]])
    figure = embedding_scatter(points, np.full(5, 8.0), [0, 0, 1, 1, -1], ["a", "b"], "PCA")
    drawn = cv2.imdecode(np.frombuffer(figure_png(figure), np.uint8), cv2.IMREAD_GRAYSCALE)
    for axes in figure.axes[:2]:
        for x, y in point_positions(axes, points):
            assert drawn[round(y * drawn.shape[0]), round(x * drawn.shape[1])] < 240


def test_a_sweeps_report_holds_its_search(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made)
    folder = Path("runs/sweep-hunt")
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=study_storage(folder), study_name="hunt", direction="maximize", load_if_exists=True
    )
    study.set_user_attr("objective", ["selected"])
    study.optimize(lambda trial: -abs(trial.suggest_float("train.lr", 0, 1) - 0.5), n_trials=8)
    history = Path("runs") / trial_name("hunt", study.best_params) / "history.jsonl"
    history.parent.mkdir(parents=True)
    history.write_text('{"call": "metrics", "step": 0, "metrics": {"train/loss": 2.0, "val/plcc": 0.5}}\n')
    assert main(["--sweep", "hunt", "--log", "false"]) == 0
    text, page = read(Path("reports/sweep-hunt.html"))
    assert page.headings == ["Search", "Trials"]
    assert f"{study.best_value:.4g}" in text
    assert "holds the search alone" in capsys.readouterr().err


@pytest.mark.slow
def test_a_comparisons_report(elsewhere: Path) -> None:
    make_model(elsewhere / "kept/model")
    tree = yaml.safe_load(experiment(elsewhere).read_text()) | {"track": {"name": "duo"}}
    tree["train"] |= {"epochs": 1, "checkpoint_steps": 0}
    variants = [
        {"name": "mos", "overrides": {"model.decoder.enabled": False}},
        {"name": "kept", "model": "kept/model"},
    ]
    Path("duo.yaml").write_text(yaml.safe_dump(tree | {"variants": variants, "part": "val", "photos": 4}))
    assert compare(["--config", "duo.yaml"]) == 0
    assert main(["--comparison", "duo", "--meteor", "false"]) == 0
    _, page = read(Path("reports/compare-duo.html"))
    assert page.headings[:3] == ["Comparison", "Scores", "Training"]
    run_id = Path("runs/compare-duo/run_id.txt").read_text()
    kept = {Path(one.path).name for one in open_client().list_artifacts(run_id, "report")}
    assert {"compare-duo.html", "cost_predict_ms.png", "score_plcc.png", "losses.png"} <= kept


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
def test_bad_input_is_one_line(made: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str) -> None:
    monkeypatch.chdir(made)
    with pytest.raises(UserError, match=message) as error:
        main(words)
    assert "\n" not in str(error.value)


def test_a_page_escapes_what_it_shows_and_keeps_its_limit(tmp_path: Path) -> None:
    photo = GalleryPhoto(
        photo_uri(np.zeros((4, 9, 3), np.uint8), 8), "<b>", "</script><script>alert(1)</script>", ["&"]
    )
    page = Page("a < b", [], [Section("One", "", [Gallery("all", [photo])])], [("data:,", "</script>")])
    write_page(page, tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text()
    assert text.count("<script") == 2  # the page's own
    page.photos = [("data:," + "x" * LIMIT, "")]
    with pytest.raises(UserError, match="fewer --photos"):
        write_page(page, tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text() == text


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 17, 18, 100])
def test_best_median_and_worst_are_different_photos(count: int) -> None:
    best, middle, worst = (one.tolist() for one in pick_examples(np.arange(count)))
    shown = best + middle + worst
    assert len(shown) == len(set(shown)) >= min(count, 3)
    assert best == list(range(len(best)))
    assert worst == list(range(count))[::-1][: len(worst)]
    if count == 100:
        assert middle == [47, 48, 49, 50, 51, 52]


def test_a_comparisons_variants_answer_as_they_were_compared(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    folder = Path("runs/compare-twice")
    base = tiny_config()
    base.data.val = 0.5  # the model's own is another
    given: list[dict[str, Any]] = [{"generate.method": "greedy", "generate.max_length": 2}, {"generate.beam": 3}]
    variants = [VariantConfig(f"v{i}", overrides=one, model="run/model") for i, one in enumerate(given)]
    tree = {"comparison": asdict(ComparisonConfig("val", 4, variants)), **to_dict(base)}
    write_text(folder / "config.yaml", yaml.safe_dump(tree))
    for one in variants:
        write_text(folder / f"rows/{one.name}.json", json.dumps({"row": asdict(VariantRow(one.name, "evaluated"))}))
    assert main(["--comparison", "twice", "--meteor", "false", "--log", "false"]) == 0
    text, _ = read(Path("reports/compare-twice.html"))
    Path("base.yaml").write_text(yaml.safe_dump(to_dict(base)))
    cells = []
    for overrides in given:
        words = [f"--{key}={value}" for key, value in overrides.items()]
        evaluate(["--model", "run/model", "--config", "base.yaml", "--meteor", "false", "--json", "v.json", *words])
        cells.append(score_cell(Score(**json.loads(Path("v.json").read_text())["scores"]["all"]["bleu_1"])))
    assert cells[0] != cells[1]
    row = "".join(f"<td>{one}</td>" for one in ["bleu_1", *cells])
    assert row in text
    assert "<th>v0</th><th>v1</th>" in text


def test_photos_without_an_answer_are_told(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_data(Path("data"))
    config = tiny_config(captions=False)
    config.data.val = 0.5
    make_model(Path("mos"), config, styles=())
    for path in sorted(Path("data/train").iterdir())[:18]:
        path.write_bytes(path.name.encode())
    assert main(["--model", "mos", "--output", "lost.html", "--log", "false"]) == 3
    text, _ = read(Path("lost.html"))
    assert re.search(
        r'<p class="about">mos: \d+ photos could not be answered; .* in their place: 00.*, \.\.\.</p>', text
    )
