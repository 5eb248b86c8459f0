"""A real search: Ray, Optuna, MLflow, three tiny trials, the best trained out; then the same command once more."""

import json
import re
from pathlib import Path

import optuna
import pytest
import yaml

from src.common.errors import UserError
from src.sweep import main
from src.tracking.finished_runs import find_group
from src.tracking.run_registry import find_model, list_runs
from tests.training.test_run import experiment


def sweep_file(folder: Path, **settings: object) -> Path:
    """A sweep over the tiny experiment."""
    base = experiment(folder, epochs=2, checkpoint_steps=0, ema=0.0)
    space = {"train.lr": {"log": [1e-4, 1e-2]}, "model.mos.hidden": {"choice": [0, 4]}}
    path = folder / "little.yaml"
    final = {"train.epochs": 3}
    tree = {"base": str(base), "space": space, "trials": 3, "at_once": 2, "resources": {"cpu": 0.5}, "final": final}
    path.write_text(yaml.safe_dump({**tree, "predict": str(folder / "data/train"), "output": "out.csv", **settings}))
    return path


@pytest.mark.usefixtures("ray_started")
def test_a_search_leaves_one_run_a_trial_and_is_not_repeated(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(sweep_file(elsewhere, fixed={"model.decoder.enabled": False}))  # Java would start with each run
    assert main(["--config", file]) == 0
    printed, lines = capsys.readouterr()
    last = re.search(r"trial 3/3  selected -?\d\.\d{4}  \d epochs  .* s  (.*)  best -?\d\.\d{4}\n", lines)
    assert last
    assert {part.split()[0] for part in last[1].split("  ")} == {"lr", "hidden"}
    assert "src.evaluate --model little-best" in printed
    assert (elsewhere / "out.csv").exists()

    runs = list_runs("multitask")
    parent = next(run for run in runs if run.name == "little")
    children = [run for run in runs if run.tags.get("mlflow.parentRunId") == parent.id]
    assert len(children) == 4  # three trials and the best
    assert {run.status for run in runs} == {"FINISHED"}
    study = optuna.load_study(study_name="little", storage=f"sqlite:///{elsewhere}/runs/sweep-little/study.db")
    assert sorted(trial.state.name for trial in study.trials) == ["COMPLETE"] * 3
    trials = [child for child in children if "sweep" in child.tags]
    assert len(trials) == 3
    assert {child.tags["sweep"] for child in trials} == {"little"}
    assert {child.tags["status"] for child in trials} <= {"finished", "stopped"}
    drawn = {float(child.params["search.lr"]) for child in trials}
    assert drawn == {trial.params["train.lr"] for trial in study.trials}
    assert parent.metrics["trials_finished"] == 3
    assert parent.metrics["selected"] == study.best_value
    assert (elsewhere / "runs/sweep-little/plots/history_selected.png").exists()
    assert find_model("little").resolve() == elsewhere / "runs/little-best/model"
    best = json.loads((elsewhere / "runs/little-best/config.json").read_text())
    assert best["train"]["lr"] == study.best_params["train.lr"]
    assert best["train"]["epochs"] == 3
    assert find_model("best").is_dir()

    assert main(["--config", file]) == 0
    assert len(list_runs("multitask")) == len(runs)
    capsys.readouterr()
    assert main(["--config", file, "--status"]) == 0
    stopped = sum(child.tags["status"] == "stopped" for child in trials)
    assert capsys.readouterr().out.startswith(f"little: {3 - stopped} finished, {stopped} stopped, 0 running, 0 failed")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_started")
def test_a_search_of_two_scores_goes_on_after_a_failure_and_stops_after_two_alike(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"train.lr": {"choice": [1e-3, 1e30]}, "model.mos.hidden": {"choice": [0, 4]}}
    start = [{"train.lr": lr, "model.mos.hidden": hidden} for lr, hidden in ((1e30, 0), (1e-3, 0), (1e30, 4))]
    settings = {"space": space, "start": start, "objective": ["quality", "cider_d"], "failures": 2, "at_once": 1}
    file = sweep_file(elsewhere, **settings, trials=6)
    with pytest.raises(UserError, match="little: stopped, since 2 trials failed for one reason: .* is not finite"):
        main(["--config", str(file)])
    printed = capsys.readouterr().out
    assert "little: 1 finished, 0 stopped, 0 running, 2 failed" in printed
    assert printed.count("is not finite") == 4  # as it happens, and in the table
    study = optuna.load_study(study_name="little", storage=f"sqlite:///{elsewhere}/runs/sweep-little/study.db")
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "FAIL"]
    assert len(study.trials[1].values) == 2
    states = {run.name: (run.status, run.tags["status"]) for run in list_runs("multitask")}
    assert sorted(states.values()) == [("FAILED", "failed")] * 3 + [("FINISHED", "finished")]
    assert (elsewhere / "runs/sweep-little/plots/front.png").exists()


@pytest.mark.slow  # a minute of trials and folds
@pytest.mark.usefixtures("ray_started")
def test_the_best_is_trained_out_on_all_folds_which_predict_together(elsewhere: Path) -> None:
    final = {"train.epochs": 1, "model.decoder.enabled": False}
    file = str(sweep_file(elsewhere, trials=1, folds=2, fixed={"train.epochs": 1}, final=final))
    assert main(["--config", file]) == 0
    runs = {run.name: run for run in list_runs("multitask")}
    names = [f"little-best-fold{fold}-seed0" for fold in range(2)]
    group = find_group("little")
    assert group
    assert (group.name, group.members) == ("little-best", names)
    folds = [runs[name] for name in names]
    assert {run.tags["mlflow.parentRunId"] for run in folds} == {runs["little-best"].id}
    held = [set(json.loads((run.folder / "answers.json").read_text())["names"]) for run in folds if run.folder]
    assert sum(map(len, held)) == len(set.union(*held)) == 24  # every photo is held out once
    scores = [run.metrics["selected"] for run in folds]
    assert runs["little"].metrics["final_selected"] == pytest.approx(sum(scores) / 2)
    assert find_model("little").resolve() == elsewhere / f"runs/{names[scores.index(max(scores))]}/model"
    assert len(json.loads((elsewhere / "out.json").read_text())["members"]) == 2


def test_a_wrong_space_is_refused_before_anything_starts(elsewhere: Path) -> None:
    file = sweep_file(elsewhere, space={"train.lrate": {"log": [1e-4, 1e-2]}})
    with pytest.raises(UserError, match=r"little.yaml:[0-9]+: space: unknown key train.lrate; did you mean train.lr\?"):
        main(["--config", str(file)])
    assert not (elsewhere / "runs").exists()


def test_photos_to_predict_that_are_not_there_are_missed_before_anything_starts(elsewhere: Path) -> None:
    file = sweep_file(elsewhere, predict="nowhere.csv")
    with pytest.raises(UserError, match=r"little.yaml:[0-9]+: predict: nowhere.csv: cannot be read"):
        main(["--config", str(file)])
    assert not (elsewhere / "runs").exists()
