"""A group of runs on tiny photos: cut short and resumed, its out-of-fold scores by hand, and its use as a model."""

import json
import re
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from pycocoevalcap.cider.cider import Cider
from scipy.stats import pearsonr

from src.common.errors import UserError
from src.ensemble import main as ensemble
from src.evaluate import main as evaluate
from src.evaluation.out_of_fold import OofScores
from src.inference.submission import read_submission
from src.metrics.text.ptb_tokenizer import tokenize
from src.predict import main as predict
from src.report import main as report
from src.tracking.finished_runs import find_group
from src.tracking.mlflow_client import open_client
from src.tracking.run_group import read_oof
from src.tracking.run_lock import LOCK
from src.tracking.run_log import read_metrics
from src.tracking.run_registry import list_runs
from src.train import main
from tests.reporting.report_reader import read_report
from tests.training.test_run import PHOTOS, QUALITY, cut_short, experiment

SAME = ("--data.flip", "false", "--data.caption_size", "-1")  # in training, evaluations see no mirror image
GROUP = ("--folds", "2", "--seeds", "2", *SAME)
MEMBERS = [f"tiny-fold{fold}-seed{seed}" for fold in range(2) for seed in range(2)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a group of four runs and its refit, which was cut short within its third run."""
    folder = tmp_path_factory.mktemp("group")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        file = str(experiment(folder, epochs=2, checkpoint_steps=0, ema=0.0))
        step = "src.training.lightning_module:MultitaskModule.training_step"
        cut_short(patch, step, 2 * 2 * 3 + 5, file, *GROUP)
        done = [name for name in MEMBERS if (folder / "runs" / name / "result.json").exists()]
        assert done == MEMBERS[:2]
        assert not (folder / "runs/tiny/group.json").exists()
        times = [(folder / "runs" / name / "result.json").stat().st_mtime_ns for name in done]
        assert main(["--config", file, *QUALITY, *GROUP, "--refit"]) == 0
        assert [(folder / "runs" / name / "result.json").stat().st_mtime_ns for name in done] == times
    return folder


@pytest.fixture
def group(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return trained


def test_every_photo_is_predicted_by_the_runs_that_did_not_train_on_it(group: Path) -> None:
    table = read_oof(Path("runs/tiny"))
    assert sorted(table["img_name"]) == sorted([f"{i:04}" for i in range(PHOTOS)] * 2)
    assert sorted(set(zip(table["fold"], table["seed"], strict=True))) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert table["mos_true"].tolist() == [3 + int(name) % 5 for name in table["img_name"]]
    for fold, seed in {(0, 1), (1, 0)}:
        answers = json.loads(Path(f"runs/tiny-fold{fold}-seed{seed}/answers.json").read_text())
        rows = table[(table["fold"] == fold) & (table["seed"] == seed)]
        assert dict(zip(rows["img_name"], rows["mos"], strict=True)) == pytest.approx(
            dict(zip(answers["names"], answers["mos"], strict=True))
        )


def test_scores_and_their_spread_are_those_by_hand_here_and_in_mlflow(group: Path) -> None:
    scores = OofScores.read(Path("runs/tiny"))
    means = read_oof(Path("runs/tiny")).groupby("img_name")[["mos", "mos_true"]].mean()
    plcc = scores.columns["all"]["plcc"]
    assert plcc.value == pytest.approx(pearsonr(means["mos"], means["mos_true"]).statistic)
    assert plcc.low is not None
    assert plcc.low < plcc.value
    results = [json.loads(Path(f"runs/{name}/result.json").read_text()) for name in MEMBERS]
    values = np.array([result["scores"]["plcc"]["value"] for result in results]).reshape(2, 2)
    spread = {"folds": values.mean(axis=1).std(ddof=1), "seeds": values.mean(axis=0).std(ddof=1)}
    assert scores.spread["plcc"] == pytest.approx(spread)
    runs = {run.name: run for run in list_runs()}
    parent = runs["tiny"]
    assert parent.metrics["oof/plcc"] == plcc.value
    assert parent.metrics["oof/plcc_sd_folds"] == pytest.approx(spread["folds"])
    assert {run.tags.get("mlflow.parentRunId") for name, run in runs.items() if name != "tiny"} == {parent.id}
    assert {run.status for run in runs.values()} == {"FINISHED"}
    assert len(runs) == 6


def test_the_same_command_repeats_nothing_and_other_settings_are_refused(
    group: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/result.json")}
    assert main(["--config", "tiny.yaml", *QUALITY, *GROUP]) == 0
    printed, errors = capsys.readouterr()
    assert "4 of 4 runs are already done" in errors
    assert "out of fold" in printed
    assert "src.predict --model tiny-refit" in printed
    assert {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/result.json")} == times
    for words, message in [
        (
            ["--folds", "3", *SAME],
            "tiny-fold0-seed0: holds a run with another config .data.folds.*--again true",
        ),
        (["--folds", "1"], "folds is 1: set 0"),
        ([*GROUP, "--data.folds", "2"], "data.folds: is one run's"),
        (["--refit"], "--refit and --at-once: are for a group"),
        ([*GROUP, "--refit", "--train.schedule", "plateau"], "data.train_on_val: leaves no score"),
    ]:
        with pytest.raises(UserError, match=message):
            main(["--config", "tiny.yaml", *QUALITY, *words])


def test_the_run_on_all_photos_has_no_score_and_the_median_best_epoch(group: Path) -> None:
    made = find_group("tiny")
    assert made is not None
    assert made.refit == "tiny-refit"
    result = json.loads(Path("runs/tiny-refit/result.json").read_text())
    assert result["scores"] == {}
    assert result["selected"] is None
    config = json.loads(Path("runs/tiny-refit/config.json").read_text())
    assert config["train"]["stop_after"] in (1, 2)
    assert config["train"]["epochs"] == 2
    with pytest.raises(UserError, match="was trained on these photos too; score its group"):
        evaluate(["--model", "tiny-refit"])
    assert predict(["--model", "tiny-refit", "--data", "data/train", "--output", "refit.csv"]) == 0


def predicted_mos(*words: str) -> list[float]:
    assert predict([*words, "--data", "data/train", "--output", "out.csv"]) == 0
    mos = read_submission(Path("out.csv")).mos
    assert mos is not None
    return mos


def test_a_group_predicts_as_the_mean_of_its_models(group: Path) -> None:
    joined = predicted_mos("--model", "tiny")
    facts = json.loads(Path("out.json").read_text())
    assert facts["group"] == "tiny"
    assert [member["run"] for member in facts["members"]] == MEMBERS
    assert joined == pytest.approx(np.mean([predicted_mos("--model", name) for name in MEMBERS], axis=0), abs=2e-6)
    words = ["--data", "data/train", "--output", "out.csv"]
    assert ensemble(["--models", "tiny", *words]) == 0
    assert read_submission(Path("out.csv")).mos == joined
    with pytest.raises(UserError, match="--workers 2: a group predicts in one process"):
        predict(["--model", "tiny", "--workers", "2", *words])


def test_evaluation_of_a_group_is_out_of_fold(group: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "tiny", "--against", MEMBERS[0], "--details", "d.json", "--json", "s.json", "--log", "true"]
    assert evaluate(words) == 0
    printed, errors = capsys.readouterr()
    assert f"tiny on {PHOTOS} photos (val of the data of its models)" in printed
    assert "predicted by several models" not in errors
    oof = OofScores.read(Path("runs/tiny")).columns["all"]["plcc"].value
    assert json.loads(Path("s.json").read_text())["scores"]["all"]["plcc"]["value"] == pytest.approx(oof, abs=1e-5)
    assert [model["run"] for model in json.loads(Path("d.json").read_text())["models"]] == MEMBERS
    assert next(run for run in list_runs() if run.name == "tiny").metrics["eval/val/plcc"] == pytest.approx(
        oof, abs=1e-5
    )
    assert evaluate(["--model", MEMBERS[0], "--against", "tiny", "--json", "s.json"]) == 0
    photos = {photo["names"]: photo["mos"] for photo in json.loads(Path("s.json").read_text())["photos"]}
    differences = json.loads(Path("s.json").read_text())["against"]["tiny"]["plcc"]["value"]
    table = read_oof(Path("runs/tiny")).groupby("img_name")[["mos", "mos_true"]].mean().loc[list(photos)]
    own = pearsonr(list(photos.values()), table["mos_true"]).statistic
    assert differences == pytest.approx(own - pearsonr(table["mos"], table["mos_true"]).statistic, abs=1e-5)


def test_the_report_shows_the_spread_and_the_curves_of_all_runs(group: Path) -> None:
    assert report(["--model", "tiny", "--output", "tiny.html"]) == 0
    text, page = read_report(Path("tiny.html"))
    assert page.headings[:4] == ["Scores", "Folds and seeds of tiny", "Training", "Mos"]
    for name, values in OofScores.read(Path("runs/tiny")).spread.items():
        assert re.search(rf"{name}</t[hd]>.*{values['folds']:.4f}", text)
    assert all(name in text for name in [*MEMBERS, "tiny-refit is trained on all photos"])
    artifacts = open_client().list_artifacts(Path("runs/tiny/run_id.txt").read_text().strip())
    assert "report" in {path.path for path in artifacts}


def test_a_group_with_captions_and_mos(elsewhere: Path) -> None:
    file = str(experiment(elsewhere, epochs=1, checkpoint_steps=0, ema=0.0))
    assert main(["--config", file, "--folds", "2", *SAME]) == 0
    names = ["tiny-fold0-seed0", "tiny-fold1-seed0"]
    table = read_oof(Path("runs/tiny")).set_index("img_name")
    assert sorted(table.index) == [f"{i:04}" for i in range(PHOTOS)]
    answers = [json.loads(Path(f"runs/{name}/answers.json").read_text()) for name in names]
    written = {image: text for run in answers for image, text in zip(run["names"], run["captions"], strict=True)}
    assert table["comments"].to_dict() == written
    assert any(written.values())

    references = {image: texts for run in answers for image, texts in zip(run["names"], run["references"], strict=True)}
    scores = OofScores.read(Path("runs/tiny")).columns["all"]
    assert {"plcc", "cider_d", "bleu_4", "rouge_l"} <= scores.keys()
    truth = {image: tokenize(references[image]) for image in table.index}
    cider, _ = Cider().compute_score(truth, {image: tokenize([written[image]]) for image in table.index})
    assert scores["cider_d"].value == pytest.approx(cider, abs=1e-4)

    words = ["--data", "data/train", "--output", "group.csv"]
    assert predict(["--model", "tiny", *words]) == 0
    group = read_submission(Path("group.csv"))
    assert group.comments is not None
    assert all(group.comments)
    assert json.loads(Path("group.json").read_text())["comments"] == "consensus"  # each fold has its own vocabulary
    assert ensemble(["--models", *names, "--data", "data/train", "--output", "joint.csv"]) == 0
    assert read_submission(Path("joint.csv")).comments == group.comments


def kill_worker(folder: Path, killed: list[str]) -> None:
    """Kills the process of the first run that has a checkpoint; notes the run's name."""
    end = time.monotonic() + 400
    while not killed and time.monotonic() < end:
        for file in folder.glob("runs/tiny-fold*/checkpoints/last.ckpt"):
            run = file.parents[1]
            holders = [one for one in psutil.Process().children(recursive=True) if holds(one, run / LOCK)]
            if holders and not (run / "result.json").exists():
                holders[0].kill()
                killed.append(run.name)
                return
        time.sleep(0.02)


def holds(process: psutil.Process, file: Path) -> bool:
    """Whether a process has a file open."""
    try:
        return str(file) in [opened.path for opened in process.open_files()]
    except psutil.Error:
        return False


@pytest.mark.usefixtures("ray_started")
def test_runs_train_at_the_same_time_and_one_whose_process_dies_resumes(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(experiment(elsewhere, epochs=6, ema=0.0))
    killed: list[str] = []
    killer = threading.Thread(target=kill_worker, args=(elsewhere.resolve(), killed))
    killer.start()
    words = ["--config", file, *QUALITY, *SAME, "--folds", "2", "--seeds", "1", "--at-once", "2"]
    assert main(words) == 0
    killer.join()
    assert killed
    names = [f"tiny-fold{fold}-seed0" for fold in range(2)]
    assert "run 2/2: " in capsys.readouterr().err
    group = find_group("tiny")
    assert group
    assert group.members == names
    assert sorted(read_oof(Path("runs/tiny"))["img_name"]) == [f"{i:04}" for i in range(PHOTOS)]
    assert sorted((run.name, run.status) for run in list_runs()) == [(n, "FINISHED") for n in ["tiny", *names]]
    for name in names:  # no step was left out or repeated
        steps = [step for step, _ in read_metrics(Path("runs", name, "history.jsonl"))["val/loss"]]
        assert len(steps) == len(set(steps)) == 6
    times = [Path("runs", name, "result.json").stat().st_mtime_ns for name in names]
    assert main(words) == 0
    assert [Path("runs", name, "result.json").stat().st_mtime_ns for name in names] == times
