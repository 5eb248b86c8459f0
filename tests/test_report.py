"""Reports through the command: everything is in one file, and its figures are in MLflow."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from src.compare import main as compare
from src.errors import UserError
from src.report import main
from src.reporting.gallery import picked
from src.reporting.page import LIMIT, Gallery, Page, Photo, Section, write_page
from src.reporting.pictures import photo_uri
from src.runs import open_client
from src.train import main as train
from tests.learning.test_train import experiment

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
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one trained run and its database."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        experiment(folder, epochs=2)
        train(["--config", "tiny.yaml"])
    return folder


def test_a_models_report_needs_nothing_else(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    assert main(["--model", "tiny", "--meteor", "false"]) == 0
    text, page = read(Path("reports/tiny.html"))
    assert page.headings == SECTIONS
    assert all(one.startswith(("data:image/", "#s")) for one in page.addresses)
    assert len(text) < LIMIT
    photos = json.loads(re.search(r'id="photos">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    answers = json.loads(Path("runs/tiny/answers.json").read_text())
    assert len(photos) == len(answers["names"])
    assert {label.split(":")[0] for _, label in photos} == set(answers["names"])
    assert all(answers["captions"][answers["names"].index(label.split(":")[0])] in label for _, label in photos)
    shown = [cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), 1) for uri, _ in photos]
    assert all(one.std() > 10 for one in shown)
    assert len(page.points) == 2  # PCA and t-SNE
    for points in page.points:
        assert sorted({int(photo) for _, _, photo in points}) == list(range(len(photos)))
        assert all(0 < x < 1 and 0 < y < 1 for x, y, _ in points)
    run_id = Path("runs/tiny/run_id.txt").read_text()
    kept = {Path(one.path).name for one in open_client().list_artifacts(run_id, "report")}
    assert {"tiny.html", "mos.png", "calibration.png", "losses.png", "pca.png", "tsne.png", "lengths.png"} <= kept
    scores = json.loads(Path("runs/tiny/result.json").read_text())["scores"]
    assert f"{scores['cider_d']['value']:.4f} [{scores['cider_d']['low']:.4f}" in text


def test_points_lie_where_the_figure_has_them() -> None:
    from src.reporting.figures import photo_map
    from src.reporting.pictures import figure_png, places

    points = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, -1.0], [2.0, 2.0], [-1.0, 1.0]])
    figure = photo_map(points, np.full(5, 8.0), [0, 0, 1, 1, -1], ["a", "b"], "PCA")
    drawn = cv2.imdecode(np.frombuffer(figure_png(figure), np.uint8), cv2.IMREAD_GRAYSCALE)
    for axes in figure.axes[:2]:
        for x, y in places(axes, points):
            assert drawn[round(y * drawn.shape[0]), round(x * drawn.shape[1])] < 240


def test_a_comparisons_report(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    tree = yaml.safe_load(Path("tiny.yaml").read_text()) | {"track": {"name": "duo"}}
    tree["train"] |= {"epochs": 1, "checkpoint_steps": 0}
    variants = [
        {"name": "mos", "overrides": {"model.decoder.enabled": False}},
        {"name": "kept", "model": "runs/tiny/model"},
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
    ],
)
def test_bad_input_is_one_line(trained: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str) -> None:
    monkeypatch.chdir(trained)
    with pytest.raises(UserError, match=message) as error:
        main(words)
    assert "\n" not in str(error.value)


def test_a_page_escapes_what_it_shows_and_keeps_its_limit(tmp_path: Path) -> None:
    photo = Photo(photo_uri(np.zeros((4, 9, 3), np.uint8), 8), "<b>", "</script><script>alert(1)</script>", ["&"])
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
    best, middle, worst = (one.tolist() for one in picked(np.arange(count)))
    shown = best + middle + worst
    assert len(shown) == len(set(shown)) >= min(count, 3) - (count == 3) * 0
    assert best == list(range(len(best)))
    assert worst == list(range(count))[::-1][: len(worst)]
    if count == 100:
        assert middle == [47, 48, 49, 50, 51, 52]
