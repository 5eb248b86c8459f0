"""A score of a user: one file in a folder of SRC_PLUGINS, computed wherever scores are."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import src.evaluate
import src.report
import src.train
from src.common.errors import UserError
from src.common.plugins import VARIABLE
from src.config.loader import load_config
from src.config.schema import SourceConfig
from src.metrics.compute import headline_scores, higher_is_better, score_images, score_infos, selectable_scores
from src.tracking.run_folder import config_identity
from src.tracking.run_registry import list_runs
from src.training.config_checks import check_config
from tests.tiny import CAPTIONS, tiny_config, write_photo

PLUGINS = Path(__file__).parents[1] / "fixtures/plugins"
TODAY = (
    "plcc srcc krcc rmse distinct_captions distinct_share vocabulary_used bleu_1 bleu_2 bleu_3 bleu_4 meteor rouge_l "
    "cider_d rouge_1_mean rouge_1_best quality captioning combined"
).split()


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics word_recall and half_point of tests/fixtures/plugins."""
    monkeypatch.setenv(VARIABLE, str(PLUGINS))


def experiment() -> Path:
    """An experiment's file that selects epochs by word_recall, on 24 images."""
    rows = ["img_name,img_path,mos,comments"]
    for i in range(24):
        write_photo(Path(f"data/train/{i:02}.jpg"), i)
        rows.append(f"{i:02},./train/{i:02}.jpg,{3 + i % 5},{CAPTIONS[i % 4]}")
    Path("data/train.csv").write_text("\n".join(rows) + "\n")
    tree = config_identity(tiny_config(sources=[SourceConfig(path="data")]))
    tree["data"] |= {"val": 0.33, "split_dir": "cache/splits"}
    tree["train"] |= {"epochs": 2, "batch_size": 8, "threads": 1, "select": "word_recall"}
    path = Path("mine.yaml")
    path.write_text(yaml.safe_dump(tree | {"track": {"name": "mine"}}))
    return path


def test_it_selects_epochs_and_is_in_every_table(
    elsewhere: Path, plugins: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert src.train.main(["--config", str(experiment())]) == 0
    (run,) = list_runs()
    assert run.metrics["val/selected"] == run.metrics["val/word_recall"]
    assert {"val/half_point", "best/half_point", "best/word_recall"} <= set(run.metrics)
    capsys.readouterr()
    assert src.evaluate.main(["--model", "mine", "--meteor", "false", "--json", "mine.json"]) == 0
    printed = capsys.readouterr().out
    result = json.loads(Path("mine.json").read_text())
    for name in ("word_recall", "half_point"):
        score = result["scores"]["all"][name]
        assert score["low"] <= score["value"] <= score["high"]
        per_image = [photo[name] for photo in result["photos"]]
        assert np.mean(per_image) == pytest.approx(score["value"])
        assert f"{score['value']:.4f} [{score['low']:.4f}, {score['high']:.4f}]" in printed
    assert src.report.main(["--model", "mine", "--meteor", "false", "--log", "false", "--output", "mine.html"]) == 0
    assert "word_recall" in Path("mine.html").read_text()


def test_its_value_is_the_mean_over_images(plugins: None) -> None:
    mos = np.array([4.0, 5.0, 6.0])
    scores = score_images(
        ["a", "b", "c"], mos, mos + np.array([0.1, 0.9, -0.4]), ["A dog.", "a cat", "x"], [["a dog runs"], ["cats"], []]
    )
    assert scores.scores["half_point"].value == pytest.approx(2 / 3)
    assert scores.scores["word_recall"].value == pytest.approx((2 / 3 + 0) / 2)
    assert np.isnan(scores.per_image["word_recall"][2])


def test_the_order_of_scores_is_fixed_and_a_users_come_before_the_challenges(
    plugins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(score_infos()) == {*TODAY, "word_recall", "half_point"}
    assert [name for name in score_infos() if name in TODAY] == TODAY
    assert list(score_infos())[-4:] == ["word_recall", "quality", "captioning", "combined"]
    assert "word_recall" in headline_scores()
    monkeypatch.delenv(VARIABLE)
    assert list(score_infos()) == TODAY


def test_a_score_says_which_way_is_better_and_of_which_head_it_is(plugins: None) -> None:
    assert higher_is_better("word_recall")
    assert not higher_is_better("rmse")
    assert {"word_recall", "combined"} <= set(selectable_scores(mos=False, captions=True))
    assert "half_point" not in selectable_scores(mos=False, captions=True)
    assert "rmse" not in selectable_scores(mos=True, captions=True)


def test_selecting_by_a_score_that_does_not_exist_is_refused(elsewhere: Path) -> None:
    with pytest.raises(UserError, match=r"^train\.select: word_recall is no score"):
        check_config(load_config(experiment()))
