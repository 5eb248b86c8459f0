"""The space of a sweep: which values it draws, and under which conditions."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from src.tuning.search_space import Domain, SearchSpace, domain_contains, nearest_value, preset_point, short_names
from src.tuning.sweep_config import load_sweep
from tests.tuning.test_sweep_config import CONDITIONAL, SPACE, write


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


def test_a_conditional_key_is_drawn_only_where_its_condition_holds(tmp_path: Path) -> None:
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
    point = preset_point(SPACE, str(tmp_path / "preset.yaml"))
    assert point == {"train.lr": 0.02, "model.decoder.hidden": 128, "model.decoder.dropout": 0.5}


def test_short_names_tell_keys_apart() -> None:
    keys = ["train.lr", "train.backbone_lr", "model.decoder.dropout", "model.mos.dropout"]
    assert list(short_names(keys).values()) == ["lr", "backbone_lr", "decoder.dropout", "mos.dropout"]
    assert short_names(["a.b", "b"]) == {"a.b": "a.b", "b": "b"}


@pytest.mark.parametrize(
    ("domain", "value", "nearest"),
    [
        ({"log": [1e-4, 1e-1]}, 0.12, 0.1),
        ({"float": [0.1, 0.5]}, 0.08, 0.1),
        ({"float": [0.0, 0.5], "step": 0.2}, 0.48, 0.4),
        ({"int": [64, 250], "step": 64}, 160.3, 192),
        ({"logint": [4, 64]}, 76.8, 64),
        ({"choice": ["a", "b"]}, "b", "b"),
    ],
)
def test_a_value_outside_of_its_domain_moves_to_the_nearest_within(domain: Domain, value: Any, nearest: Any) -> None:
    assert nearest_value(domain, value) == pytest.approx(nearest)
    assert type(nearest_value(domain, value)) is type(nearest)
    assert domain_contains(domain, nearest_value(domain, value))
