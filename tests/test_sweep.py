"""A real search: Ray, Optuna, MLflow, three tiny trials, the best trained out; then the same command once more."""

import json
from pathlib import Path

import optuna
import pytest
import yaml

from src.errors import UserError
from src.runs import find_model, list_runs
from src.sweep import main
from tests.learning.test_train import experiment


def sweep_file(folder: Path, **settings: object) -> Path:
    """A sweep over the tiny experiment."""
    base = experiment(folder, epochs=2, checkpoint_steps=0, ema=0.0)
    space = {"train.lr": {"log": [1e-4, 1e-2]}, "model.mos.hidden": {"choice": [0, 4]}}
    path = folder / "little.yaml"
    final = {"train.epochs": 3}
    tree = {"base": str(base), "space": space, "trials": 3, "at_once": 2, "resources": {"cpu": 0.5}, "final": final}
    path.write_text(yaml.safe_dump({**tree, "predict": str(folder / "data/train"), "output": "out.csv", **settings}))
    return path


@pytest.mark.timeout(290)
def test_a_search_leaves_one_run_a_trial_and_is_not_repeated(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(sweep_file(elsewhere))
    assert main(["--config", file]) == 0
    printed = capsys.readouterr().out
    assert "src.evaluate --model little-best" in printed
    assert (elsewhere / "out.csv").exists()

    runs = list_runs("multitask")
    parent = next(run for run in runs if run.name == "little")
    children = [run for run in runs if run.tags.get("mlflow.parentRunId") == parent.id]
    assert len(children) == 4  # three trials and the best
    assert {run.status for run in runs} == {"FINISHED"}
    study = optuna.load_study(study_name="little", storage=f"sqlite:///{elsewhere}/runs/sweep-little/study.db")
    assert sorted(trial.state.name for trial in study.trials) == ["COMPLETE"] * 3
    best = json.loads((elsewhere / "runs/little-best/config.json").read_text())
    assert best["train"]["lr"] == study.best_params["train.lr"]
    assert best["train"]["epochs"] == 3
    assert find_model("best").is_dir()

    assert main(["--config", file]) == 0
    assert len(list_runs("multitask")) == len(runs)


def test_a_wrong_space_is_refused_before_anything_starts(elsewhere: Path) -> None:
    file = sweep_file(elsewhere, space={"train.lrate": {"log": [1e-4, 1e-2]}})
    with pytest.raises(UserError, match=r"little.yaml: space: unknown key train.lrate; did you mean train.lr\?"):
        main(["--config", str(file)])
    assert not (elsewhere / "runs").exists()
