"""The audit of tiny data with planted faults, as the command writes it and training takes it."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.stats import median_abs_deviation

from src.common.errors import UserError
from src.data.sample import Sample
from src.evaluation.data_audit import mos_outliers
from src.prepare import main
from src.tracking.run_group import write_oof
from src.train import main as train
from tests.tracking.test_held_out import write_run
from tests.training.test_run import experiment


def write_group(mos: dict[str, float], outlier: str) -> None:
    """A group whose out-of-fold predictions are right but for one."""
    folder = Path("runs/group")
    folder.mkdir(parents=True)
    group = {"format": 1, "name": "group", "folds": 2, "seeds": 1, "members": ["gone"], "refit": ""}
    (folder / "group.json").write_text(json.dumps(group))
    rows = [
        ("samsung", name, 0, 0, true + 0.1 * (i % 5) + 3 * (name == outlier), "", true)
        for i, (name, true) in enumerate(mos.items())
    ]
    columns = ["source", "img_name", "fold", "seed", "mos", "comments", "mos_true"]
    write_oof(folder, pd.DataFrame(rows, columns=columns).replace({"source": {"samsung": "challenge"}}))


@pytest.fixture
def file(elsewhere: Path) -> str:
    """An experiment on 24 photos: 0005 is a small copy of 0001, 0009 has a caption that says nothing."""
    file = str(experiment(elsewhere, epochs=1, checkpoint_steps=0))
    table, photos = Path("data/train.csv"), Path("data/train")
    image = cv2.imread(str(photos / "0001.jpg"))
    cv2.imwrite(str(photos / "0005.jpg"), cv2.resize(image, (36, 36), interpolation=cv2.INTER_AREA))
    rows = list(csv.reader(table.open()))
    next(row for row in rows if row[0] == "0009")[3] = "nice photo"
    with table.open("w", newline="") as output:
        csv.writer(output).writerows(rows)
    write_group({f"{i:04}": 3 + i % 5 for i in range(24)}, "0011")
    return file


def test_the_table_is_what_training_excludes(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--config", file, "--model", "group"]) == 0
    out = capsys.readouterr().out
    assert f"next: python -m src.train --config {file} --data.exclude reports/audit/audit.csv" in out
    lines = Path("reports/audit/audit.csv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(lines))
    assert ["near_duplicate", "0005", "0001"] in [[row["kind"], row["img_name"], row["other"]] for row in rows]
    assert [(row["img_name"], row["detail"]) for row in rows if row["kind"] == "mos_outlier"] == [
        ("0011", "mos 4.00, predicted 7.10")
    ]
    assert [(row["img_name"], row["caption"]) for row in rows if row["kind"] == "empty_caption"] == [
        ("0009", "nice photo")
    ]
    page = Path("reports/audit/audit.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") >= len(rows)
    assert "mos 4.00, predicted 7.10" in page
    Path("mine.csv").write_text("\n".join(line for line in lines if ",near_duplicate," not in line or "0005" in line))
    assert train(["--config", file, "--data.exclude", "mine.csv", "--data.train_on_val", "true"]) == 0
    assert "mine.csv leaves out 2 photos (2 train, 0 val) and 1 training captions" in capsys.readouterr().err


def test_a_table_is_never_replaced_and_a_model_needs_predictions(file: str) -> None:
    Path("runs/group/oof.csv").write_text("source,img_name,fold,seed,mos,comments,mos_true\nchallenge,0001,0,0,,a,\n")
    with pytest.raises(UserError, match="--model group: has no mos of photos"):
        main(["audit", "--config", file, "--model", "group"])
    Path("reports/audit").mkdir(parents=True, exist_ok=True)
    Path("reports/audit/audit.csv").write_text("mine")
    with pytest.raises(UserError, match="audit.csv: exists"):
        main(["audit", "--config", file])
    assert Path("reports/audit/audit.csv").read_text() == "mine"


def test_a_run_of_its_own_has_its_validation_photos(file: str) -> None:
    shutil.rmtree("runs")
    Path("runs").mkdir()
    write_run(Path("runs/r"), ["0001", "0002"], [[], []])
    (Path("runs/r") / "model").mkdir()
    for name in ("model.safetensors", "config.yaml"):
        (Path("runs/r/model") / name).write_text("")
    assert main(["audit", "--config", file, "--model", "r"]) == 0


def test_the_robust_z_score_is_scipys() -> None:
    rng = np.random.default_rng(0)
    errors = rng.normal(0.3, 0.5, 200)
    errors[7] += 5
    samples = [Sample(Path("x"), str(i), "s", 4.0) for i in range(200)]
    predictions = {("s", str(i)): (4.0 + error, 4.0) for i, error in enumerate(errors.tolist())}
    expected = (errors - np.median(errors)) / median_abs_deviation(errors, scale="normal")
    rows = list(mos_outliers(samples, predictions, 2.0))
    assert [int(row.img_name) for row in rows] == np.flatnonzero(np.abs(expected) >= 2).tolist()
    assert [row.score for row in rows] == pytest.approx(expected[np.abs(expected) >= 2], rel=1e-4)
    assert "7" in {row.img_name for row in rows}
