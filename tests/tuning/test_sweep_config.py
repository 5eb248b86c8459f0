"""A sweep's YAML: what it may say, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from src.common.errors import UserError
from src.tuning.sweep_config import (
    SearchSpace,
    SweepConfig,
    TrialResources,
    domain_contains,
    load_sweep,
    preset_point,
    short_names,
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


def test_drawn_values_stay_inside_the_space() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(50):
        trial = study.ask()
        SearchSpace(SPACE)(trial)
        assert 1e-4 <= trial.params["train.lr"] <= 1e-1
        assert trial.params["model.decoder.hidden"] in (64, 128, 192, 256)
        assert trial.params["model.mos.hidden"] in (0, 32)
        assert 0.1 <= trial.params["model.decoder.dropout"] <= 0.5
        study.tell(trial, 0.0)
    low = sum(t.params["train.lr"] < 1e-2 for t in study.trials)
    assert 20 < low < 48  # two thirds of a log scale lie below 1e-2; of a linear one, a tenth


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": {"train.lrr": {"log": [1e-4, 1e-2]}}}, "unknown key train.lrr; did you mean train.lr"),
        ({"space": {"train.lr": {"log": [0.0, 1e-2]}}}, "train.lr: log needs a low end above 0"),
        ({"space": {"train.lr": {"float": [2, 1]}}}, "low below high"),
        ({"space": {"train.lr": {"gauss": [1, 2]}}}, "must be one of"),
        ({"space": {"model.decoder.hidden": {"choice": ["many"]}}}, "model.decoder.hidden"),
        ({"space": {}}, "space: is empty"),
        ({"trial": 3}, "search.yaml:[0-9]+: unknown key trial; did you mean trials"),
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


def test_a_conditional_key_is_asked_only_where_its_condition_holds(tmp_path: Path) -> None:
    load_sweep(write(tmp_path, space=CONDITIONAL))
    sampler = optuna.samplers.TPESampler(seed=0, multivariate=True, group=True, n_startup_trials=5)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(25):
        trial = study.ask()
        SearchSpace(CONDITIONAL)(trial)
        assert ("model.mos.hidden" in trial.params) == trial.params["model.mos.enabled"]
        study.tell(trial, trial.params.get("model.mos.hidden", 0))
    assert {trial.params["model.mos.enabled"] for trial in study.trials} == {True, False}
    assert study.best_params["model.mos.hidden"] > 32


@pytest.mark.parametrize(
    ("domain", "within", "without"),
    [
        ({"choice": ["a", None]}, ["a", None], ["b", 1]),
        ({"int": [64, 256], "step": 64}, [64, 192, 256], [96, 320, "64", 64.5]),
        ({"logint": [1, 9]}, [1, 4], [0, 4.5]),
        ({"float": [0.0, 0.5], "step": 0.1}, [0.3, 0.1 * 3], [0.25, 0.6]),
        ({"log": ["1e-4", 1e-2]}, [1e-4, 0.005], [1e-5, True]),
    ],
)
def test_inside_agrees_with_what_a_domain_draws(domain: dict[str, Any], within: list[Any], without: list[Any]) -> None:
    assert all(domain_contains(domain, value) for value in within)
    assert not any(domain_contains(domain, value) for value in without)


def test_a_preset_gives_those_of_its_values_that_the_space_can_draw(tmp_path: Path) -> None:
    (tmp_path / "preset.yaml").write_text("train: {lr: 0.02}\nmodel: {mos: {hidden: 48}, decoder: {hidden: 128}}")
    point = preset_point(SweepConfig(space=SPACE), str(tmp_path / "preset.yaml"))
    assert point == {"train.lr": 0.02, "model.decoder.hidden": 128, "model.decoder.dropout": 0.5}


def test_short_names_tell_keys_apart() -> None:
    keys = ["train.lr", "train.backbone_lr", "model.decoder.dropout", "model.mos.dropout"]
    assert list(short_names(keys).values()) == ["lr", "backbone_lr", "decoder.dropout", "mos.dropout"]
    assert short_names(["a.b", "b"]) == {"a.b": "a.b", "b": "b"}


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
