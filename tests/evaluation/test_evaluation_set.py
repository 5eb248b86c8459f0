"""The predictions to score: of submissions, of one model and of several."""

import json
from pathlib import Path

import pytest
from scipy.stats import pearsonr, spearmanr

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.evaluate import main
from src.inference.submission import Submission, write_submission
from tests.evaluation.truth import MOS, NAMES, write_truth
from tests.tiny import make_model, tiny_config


def test_predictions_of_one_column_and_of_some_photos(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_truth(elsewhere / "train.csv")
    write_submission(Path("X.csv"), Submission([*NAMES[:4], "other"], [1.0, 2.0, 4.0, 3.0, 9.0], None), {})
    main(["--predictions", "X.csv", "--truth", "train.csv", "--json", "s.json"])
    scores = json.loads(Path("s.json").read_text())["scores"]["all"]
    assert scores["srcc"]["value"] == pytest.approx(spearmanr([1, 2, 4, 3], MOS[:4]).statistic)
    assert "cider_d" not in scores
    assert "4 names in common" in capsys.readouterr().err


def test_a_model_on_its_own_validation_photos(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(model), "--json", "s.json", "--meteor", "false"]) == 0
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))
    assert set(found["scores"]) == {"all", "rated", "unrated"}
    assert "plcc" not in found["scores"]["unrated"]
    assert found["scores"]["all"]["plcc"]["value"] == found["scores"]["rated"]["plcc"]["value"]
    rated = [photo for photo in found["photos"] if photo["sources"] == "rated"]
    assert len(rated) == 4
    assert [photo["mos_true"] for photo in rated] == [MOS[NAMES.index(photo["names"])] for photo in rated]
    own = pearsonr([p["mos"] for p in rated], [p["mos_true"] for p in rated]).statistic
    assert found["scores"]["rated"]["plcc"]["value"] == pytest.approx(own, abs=1e-6)
    assert all(photo["mos"] is None for photo in found["photos"] if photo["sources"] == "unrated")
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if line.startswith("score"))
    assert header.split() == ["score", "all", "rated", "unrated"]


def test_models_of_all_folds_predict_every_photo(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for fold in range(2):
        config = tiny_config(captions=False, sources=[SourceConfig(format="samsung", path="rated", name="rated")])
        config.data.folds, config.data.fold = 2, fold
        folders.append(str(make_model(Path(f"fold{fold}/model"), config, styles=(), seed=fold)))
    assert main(["--model", *folders, "--json", "s.json"]) == 0
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))
    photos = {photo["names"]: photo["mos"] for photo in found["photos"]}
    assert sorted(photos) == sorted(NAMES)
    assert [about["model"] for about in found["models"]] == folders
    own = pearsonr([photos[name] for name in NAMES], MOS).statistic
    assert found["scores"]["all"]["plcc"]["value"] == pytest.approx(own, abs=1e-6)
    assert "predicted by several models" not in capsys.readouterr().err
    assert main(["--model", *folders, folders[0], "--meteor", "false"]) == 0
    assert f"of {len(NAMES)} photos were predicted by several models" in capsys.readouterr().err
    with pytest.raises(UserError, match="--log: the scores are of several runs"):
        main(["--model", *folders, "--log", "true"])


def test_another_part_and_an_unreadable_photo(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path("rated/train").iterdir():
        path.write_bytes(path.name.encode())
    assert main(["--model", str(model), "--part", "train", "--json", "s.json", "--meteor", "false"]) == 3
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))
    assert len(found["fallbacks"]) == 4
    assert "rated/train/c.jpg" in capsys.readouterr().err
