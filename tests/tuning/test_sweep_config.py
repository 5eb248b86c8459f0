"""A sweep's YAML: what it may say, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.common.errors import UserError
from src.tuning.sweep_config import (
    SweepConfig,
    TrialResources,
    load_sweep,
    trial_config,
    trials_at_once,
)

ROOT = Path(__file__).parents[2]
SPACE = {
    "train.lr": {"log": [1e-4, 1e-1]},
    "model.decoder.hidden": {"int": [64, 256], "step": 64},
    "model.mos.hidden": {"choice": [0, 32]},
    "model.decoder.dropout": {"float": [0.1, 0.5]},
}
CONDITIONAL = {
    "model.mos.enabled": {"choice": [True, False]},
    "model.mos.hidden": {"logint": [4, 64], "when": {"model.mos.enabled": True}},
}


def write(folder: Path, **settings: Any) -> Path:
    (folder / "base.yaml").write_text("train: {epochs: 4}")
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump({"base": str(folder / "base.yaml"), "space": SPACE, **settings}))
    return path


def test_a_sweep_file_is_read_with_defaults_and_its_own_name(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, trials=3, resources={"cpu": 0.5}), {"trials": 7})
    assert (sweep.name, sweep.trials, sweep.resources.cpu, sweep.resources.gpu) == ("search", 7, 0.5, 0.0)
    assert trial_config(sweep, {"train.lr": 0.5}).train.lr == 0.5
    assert trial_config(sweep, {}).train.epochs == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": {"train.lrr": {"log": [1e-4, 1e-2]}}}, "unknown key train.lrr; did you mean train.lr"),
        ({"space": {"train.lr": {"log": [0.0, 1e-2]}}}, "train.lr: log needs a low end above 0"),
        ({"space": {"train.lr": {"float": [2, 1]}}}, "low below high"),
        ({"space": {"train.lr": {"gauss": [1, 2]}}}, "must be one of"),
        ({"space": {"model.decoder.hidden": {"choice": ["many"]}}}, "model.decoder.hidden"),
        ({"space": {}}, "space: is empty"),
        ({"trial": 3}, "search.yaml:[0-9]+: trial: there is no such key; did you mean trials"),
        ({"trials": "many"}, "search.yaml:[0-9]+: .*trials"),
        ({"trials": 0}, "search.yaml:[0-9]+: trials: give a number of trials, or hours"),
        ({"resources": {"cpu": 0}}, "search.yaml:[0-9]+: resources.cpu: is 0, should be greater than 0"),
        ({"space": {"model.decoder.dropout": {"float": [0.0, 1.5]}}}, "dropout: is 1.5, should be less than 1"),
        ({"fixed": {"train.epoch": 3}}, "did you mean train.epochs"),
        ({"final": {"train.epochs": "x"}}, "train.epochs"),
        ({"start": [{"train.epochs": 3}]}, "train.epochs is not in space"),
        ({"start": [{}, {"train.lr": 5.0}]}, "search.yaml:[0-9]+: start: train.lr: 5.0 is outside"),
        ({"start": ["nowhere.yaml"]}, "nowhere.yaml: cannot be read"),
        ({"base": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
        ({"objective": ["quality"]}, "train.select: quality"),
        ({"objective": ["a", "b", "c"]}, "objective: needs"),
        ({"algorithm": "cmaes"}, "cmaes cannot search model.mos.hidden, which is a choice"),
        ({"algorithm": "nsga2"}, "nsga2 searches two objectives"),
        ({"algorithm": "gp", "space": CONDITIONAL}, "gp cannot search model.mos.hidden, which is conditional"),
        ({"space": {"train.lr": {"log": [1e-3, math.inf]}}}, "search.yaml:[0-9]+: space: inf is no finite number"),
        ({"space": {"train.lr": {"float": [math.nan, 1]}}}, "nan is no finite number"),
        ({"space": {"train.epochs": {"int": [1, 3], "step": 0.5}}}, "train.epochs: int needs whole numbers"),
        ({"space": {"train.epochs": {"logint": [1.5, 8]}}}, "train.epochs: logint needs whole numbers"),
        ({"name": "best"}, "search.yaml:[0-9]+: name: best is what the run with the highest score is called"),
        ({"predict": "x.csv", "output": "demo.txt"}, "search.yaml:[0-9]+: output: demo.txt: .* ends in .csv"),
        ({"space": {"train.lr": {"log": [1e-4, 1e-2], "step": 1e-3}}}, "a step above 0 goes with float and int only"),
        ({"space": {"model.mos.hidden": {"logint": [0, 8]}}}, "logint needs a low end above 0"),
        ({"space": {"train.lr": {"float": [1, 2], "when": {"train.ema": 1}}}}, "train.ema is no choice above it"),
        (
            {"space": {**CONDITIONAL, "train.lr": {"float": [1, 2], "when": {"model.mos.enabled": 3}}}},
            "model.mos.enabled is never 3",
        ),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_starts(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_sweep(write(tmp_path, **settings))
    assert "\n" not in str(caught.value)


def test_defaults_search_with_tpe_and_asha() -> None:
    assert (SweepConfig().algorithm, SweepConfig().scheduler) == ("tpe", "asha")


def test_a_wrong_space_is_refused_with_its_line(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "search.yaml"
    path.write_text(
        f"base: {tmp_path}/base.yaml\nspace:\n  train.lr: {{log: [1e-4, 1e-2]}}\n  train.emma: {{float: [0, 1]}}"
    )
    with pytest.raises(UserError, match=r"search.yaml:4: space: unknown key train.emma; did you mean train.ema\?"):
        load_sweep(path)


@pytest.mark.parametrize(
    ("resources", "there", "trials"),
    [
        (TrialResources(cpu=1), {"CPU": 8}, 8),
        (TrialResources(cpu=2, gpu=0.5), {"CPU": 64, "GPU": 4}, 8),
        (TrialResources(workers=2, gpu=1), {"CPU": 96, "GPU": 8}, 4),
        (TrialResources(cpu=0.1, workers=3), {"CPU": 0.9}, 3),
        (TrialResources(gpu=1), {"CPU": 8}, 1),
    ],
)
def test_as_many_trials_at_once_as_there_is_room_for(
    resources: TrialResources, there: dict[str, float], trials: int
) -> None:
    assert trials_at_once(SweepConfig(resources=resources), there) == trials
    assert trials_at_once(SweepConfig(resources=resources, at_once=7), there) == 7


@pytest.mark.parametrize("name", ["demo", "real", "real_random"])
def test_the_sweeps_that_come_along_are_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_sweep(Path(f"sweeps/{name}.yaml")).name == name


def test_the_cluster_file_is_as_ray_wants_it() -> None:
    import jsonschema
    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((ROOT / "sweeps/cluster.yaml").read_text()), schema)


PBT = {"train.lr": {"log": [1e-4, 1e-1]}, "model.mos.plcc": {"float": [0.0, 2.0]}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"algorithm": "tpe"},
            "search.yaml:[0-9]+: algorithm: tpe excludes scheduler pbt, whose first",
        ),
        ({"algorithm": "gp"}, "algorithm: gp excludes scheduler pbt"),
        ({"final": {"train.epochs": 9}}, "final: is not for scheduler pbt"),
        ({"folds": 5}, "folds: is not for scheduler pbt"),
        ({"hours": 1}, "hours: is not for scheduler pbt"),
        ({"at_once": 2}, "at_once: scheduler pbt runs as many trials as the resources allow"),
        ({"objective": ["quality", "cider_d"]}, "objective: scheduler pbt compares trials by one score"),
        ({"resources": {"workers": 2}}, "resources: scheduler pbt needs trials of one process"),
        ({"trials": 1}, "trials: scheduler pbt needs at least 2 trials"),
        ({"pbt": {"quantile": 0.7}}, "pbt.quantile: is 0.7"),
        ({"space": {**PBT, "model.mos.hidden": {"choice": [0, 4]}}}, "space: model.mos.hidden: scheduler pbt cannot"),
        ({"space": {"model.mos.plcc": {"choice": [0, 1]}}}, "space: scheduler pbt needs a range"),
    ],
)
def test_what_excludes_population_based_training_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_sweep(write(tmp_path, **{"scheduler": "pbt", "space": PBT, **settings}))
    load_sweep(write(tmp_path, scheduler="pbt", space=PBT, algorithm="random"))
