from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from src.errors import UserError
from src.search import Space, Sweep, load_sweep, trial_config

SPACE = {
    "train.lr": {"log": [1e-4, 1e-1]},
    "model.decoder.hidden": {"int": [64, 256], "step": 64},
    "model.mos.hidden": {"choice": [0, 32]},
    "model.decoder.dropout": {"float": [0.1, 0.5]},
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
        Space(SPACE)(trial)
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
        ({"trial": 3}, "trial"),
        ({"fixed": {"train.epoch": 3}}, "did you mean train.epochs"),
        ({"final": {"train.epochs": "x"}}, "train.epochs"),
        ({"start": [{"train.epochs": 3}]}, "train.epochs is not in space"),
        ({"base": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_starts(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_sweep(write(tmp_path, **settings))
    assert "\n" not in str(caught.value)


def test_defaults_search_with_tpe_and_asha() -> None:
    assert (Sweep().algorithm, Sweep().scheduler) == ("tpe", "asha")
