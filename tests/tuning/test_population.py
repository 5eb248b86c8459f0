"""Population based training: a real search of tiny models in one session of Ray, cut short, and its parts by hand."""

import gc
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest
import ray
import torch
from ray.tune import TuneError
from safetensors.torch import load_file

from src.report import main as report
from src.sweep import main
from src.tracking.run_registry import find_model, list_runs
from src.tuning.population import PopulationProgress
from src.tuning.population_member import set_rates
from src.tuning.search_space import domain_contains
from src.tuning.sweep_schedules import SweepSchedules
from tests.reporting.report_reader import read_report
from tests.training.test_run import Killed
from tests.tuning.test_sweep_runner import sweep_file

SPACE: dict[str, dict[str, Any]] = {
    "train.lr": {"log": [1e-4, 1e-1]},
    "model.mos.dropout": {"float": [0.0, 0.6]},
    "model.mos_weight": {"choice": [0.5, 1.0, 2.0]},
}
FIXED = {"train.epochs": 5, "train.schedule": "constant", "train.warmup": 0.0, "model.decoder.enabled": False}
SETTINGS = {"scheduler": "pbt", "space": SPACE, "fixed": FIXED, "pbt": {"quantile": 0.5}, "final": {}, "at_once": 0}


def population_file(folder: Path, **settings: object) -> Path:
    """A sweep of two trials that take turns and exchange their checkpoints after each of five epochs."""
    resources = {"cpu": ray.cluster_resources()["CPU"]}
    return sweep_file(folder, **{**SETTINGS, "trials": 2, "resources": resources, **settings})


def last_checkpoint(folder: Path, run: str) -> dict[str, Any]:
    return torch.load(folder / "runs" / run / "checkpoints/last.ckpt", weights_only=True)


@pytest.mark.usefixtures("ray_started")
def test_a_population_cut_short_goes_on_and_leaves_its_schedule(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(population_file(elsewhere))
    results = iter(range(99))

    def kill(*args: object, **info: object) -> None:
        if next(results) == 5:  # of eight, so no trial is at its end
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PopulationProgress, "on_trial_result", kill)
        with pytest.raises(TuneError, match="Killed"):
            main(["--config", file])
    gc.collect()  # the traceback holds the trials' processes
    assert not list((elsewhere / "runs").glob("little-*/result.json"))
    assert main(["--config", file]) == 0

    printed = capsys.readouterr().out
    runs = sorted(path.parent.name for path in (elsewhere / "runs").glob("little-????????/result.json"))
    assert len(runs) == 2
    study = optuna.load_study(study_name="little", storage=f"sqlite:///{elsewhere}/runs/sweep-little/study.db")
    assert [trial.state.name for trial in study.trials] == ["FAIL"] * 2 + ["COMPLETE"] * 2
    found = SweepSchedules.read(elsewhere / "runs/sweep-little")
    assert found
    assert sorted(found.trials) == runs
    assert found.trials[found.best]["selected"] == study.best_value
    for run, trial in found.trials.items():
        epochs = [part["epoch"] for part in trial["parts"]] + [trial["epochs"]]
        assert epochs[0] == 0
        assert all(a < b for a, b in pairwise(epochs))
        assert {part["run"] for part in trial["parts"]} <= set(runs)
        for part in trial["parts"]:
            assert all(domain_contains(SPACE[key], value) for key, value in part["values"].items())
        checkpoint = last_checkpoint(elsewhere, run)
        last = checkpoint["callbacks"]["PopulationReport"]["schedule"][-1]
        assert last["run"] == run  # after an exchange, the run trained the weights of another with other values
        config = json.loads((elsewhere / "runs" / run / "config.json").read_text())
        assert config["train"]["lr"] == last["values"]["train.lr"]
        assert config["model"]["mos"]["dropout"] == last["values"]["model.mos.dropout"]
        assert {g["initial"] for g in checkpoint["optimizer_states"][0]["param_groups"]} == {config["train"]["lr"]}
        assert set(checkpoint["lr_schedulers"][0]["base_lrs"]) == {config["train"]["lr"]}
        assert checkpoint["global_step"] == 5 * 4
    ancestors = {run: {part["run"] for part in last_schedule(elsewhere, run)} for run in runs}
    assert max(map(len, ancestors.values())) == 2, "no checkpoint was exchanged"

    assert f"schedule of {found.best}, the best trial:" in printed
    assert find_model("little").resolve() == elsewhere / "runs/little-best/model"
    weights = [load_file(elsewhere / "runs" / name / "model/model.safetensors") for name in ("little-best", found.best)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert {(run.name, run.status) for run in list_runs("multitask")} == {(n, "FINISHED") for n in ["little", *runs]}
    assert (elsewhere / "out.csv").exists()
    assert not list((elsewhere / "runs").glob("*/checkpoints/exchange-*"))

    assert main(["--config", file]) == 0  # nothing is left to do
    assert SweepSchedules.read(elsewhere / "runs/sweep-little") == found
    assert report(["--sweep", "little", "--output", "little.html"]) == 0
    text, page = read_report(Path("little.html"))
    assert "Schedule" in page.headings
    assert all(part["run"] in text for part in found.trials[found.best]["parts"])


def last_schedule(folder: Path, run: str) -> list[dict[str, Any]]:
    return last_checkpoint(folder, run)["callbacks"]["PopulationReport"]["schedule"]


@pytest.mark.parametrize("schedule", ["LambdaLR", "ReduceLROnPlateau"])
def test_new_rates_scale_the_schedule_of_a_restored_optimiser(schedule: str) -> None:
    def make(lr: float) -> tuple[torch.optim.Optimizer, Any]:
        weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
        groups = [{"params": [w], "lr": rate, "initial": rate} for w, rate in zip(weights, (lr, lr / 10), strict=True)]
        optimizer = torch.optim.AdamW(groups, weight_decay=lr)
        if schedule == "LambdaLR":
            return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        return optimizer, torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=0)

    def step(optimizer: torch.optim.Optimizer, rule: Any) -> list[float]:
        optimizer.step()
        rule.step() if schedule == "LambdaLR" else rule.step(0.0)
        return [group["lr"] for group in optimizer.param_groups]

    first = make(0.1)
    [step(*first) for _ in range(2)]
    checkpoint = {"optimizer_states": [first[0].state_dict()], "lr_schedulers": [first[1].state_dict()]}
    second = make(0.3)
    groups = [{"lr": g["initial"], "weight_decay": g["weight_decay"]} for g in second[0].param_groups]
    set_rates(checkpoint, groups)
    second[0].load_state_dict(checkpoint["optimizer_states"][0])
    second[1].load_state_dict(checkpoint["lr_schedulers"][0])
    assert step(*second) == pytest.approx([3 * lr for lr in step(*first)])
    assert [group["weight_decay"] for group in second[0].param_groups] == [0.3, 0.3]
