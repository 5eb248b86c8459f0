"""A sweep's study as a table, a front and figures, on real studies of known functions."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from src.common.errors import UserError
from src.common.files import write_text
from src.sweep import main
from src.tuning.search_space import SearchSpace, domain_contains
from src.tuning.study import (
    balanced_sum,
    best_trial,
    check_same_kind,
    make_sampler,
    open_study,
    pareto_indices,
    spent_hours,
    start_points,
)
from src.tuning.study_figures import parameter_importances, study_figures
from src.tuning.study_table import FAILURE, trial_rows
from src.tuning.sweep_config import SweepConfig, TrialResources, trial_name

SPACE: dict[str, Any] = {
    "train.lr": {"log": [1e-4, 1e-1]},
    "model.mos.dropout": {"float": [0.0, 0.5]},
    "model.decoder.dropout": {"float": [0.0, 0.5]},
}


def make(folder: Path, **settings: Any) -> tuple[SweepConfig, optuna.Study]:
    """A sweep's study in its database."""
    sweep = SweepConfig(**{"name": "little", "space": SPACE, "startup": 3, **settings})
    place = folder / "runs" / f"sweep-{sweep.name}"
    place.mkdir(parents=True, exist_ok=True)
    return sweep, open_study(sweep, place)


def ask(study: optuna.Study) -> optuna.Trial:
    """Draws a trial's values."""
    trial = study.ask()
    SearchSpace(SPACE)(trial)
    return trial


def test_status_shows_trials_best_first_with_counts_and_reasons(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, study = make(elsewhere)
    for score in (0.25, 0.75):
        done = ask(study)
        study.tell(done, score)
        (elsewhere / "runs" / trial_name("little", done.params)).mkdir(parents=True)
    write_text(elsewhere / "runs" / trial_name("little", done.params) / "result.json", "{}")  # the other was stopped
    bad, running = ask(study), ask(study)
    study.tell(bad, state=optuna.trial.TrialState.FAIL)
    running.report(0.5, 1)
    write_text(elsewhere / "runs" / trial_name("little", bad.params) / FAILURE, "UserError: the loss is not finite\n")
    study.enqueue_trial({"train.lr": 1e-3})
    (elsewhere / "little.yaml").write_text("name: little")

    assert main(["--config", "little.yaml", "--status"]) == 0
    head, titles, *rows, reason = capsys.readouterr().out.strip().splitlines()
    assert head == "little: 1 finished, 1 stopped, 1 running, 1 failed, 1 waiting"
    assert titles.split() == ["trial", "state", "selected", "min", "lr", "mos.dropout", "decoder.dropout"]
    assert [row.split()[:3] for row in rows] == [
        ["1", "finished", "0.75"],
        ["0", "stopped", "0.25"],
        ["3", "running", "0.5"],
        ["2", "failed", "-"],
    ]
    assert reason.startswith("trial 2 failed: UserError: the loss is not finite; its values: {'train.lr'")


def test_status_of_a_sweep_that_never_ran_says_so(elsewhere: Path) -> None:
    (elsewhere / "other.yaml").write_text("trials: 3")
    with pytest.raises(UserError, match="sweep-other: holds no trials yet"):
        main(["--config", "other.yaml", "--status"])


def test_a_trial_cut_short_is_queued_again_and_shown_once(tmp_path: Path) -> None:
    _, study = make(tmp_path)
    first = ask(study)
    _, study = make(tmp_path)  # the driver died, and is started again
    assert trial_rows(study, tmp_path) == []
    second = ask(study)
    assert second.params == first.params
    study.tell(second, 1.0)
    assert [(row["trial"], row["state"]) for row in trial_rows(study, tmp_path)] == [(1, "finished")]


def test_a_sweep_goes_on_with_trials_of_one_kind_only(elsewhere: Path) -> None:
    _, study = make(elsewhere)
    study.tell(ask(study), 1.0)
    (elsewhere / "base.yaml").write_text("data: {split_seed: 9}\ntrain: {ema: 0.5}")
    others: list[tuple[dict[str, Any], str]] = [
        ({"space": {**SPACE, "model.mos.dropout": {"float": [0.0, 0.4]}}}, "space.model.mos.dropout.float"),
        ({"space": {key: SPACE[key] for key in list(SPACE)[:2]}}, "space.model.decoder.dropout"),
        ({"fixed": {"train.epochs": 8, "train.threads": 2}}, "train.epochs"),
        ({"base": "base.yaml"}, "data.split_seed, train.ema"),
    ]
    for changed, keys in others:
        with pytest.raises(UserError, match=rf"little: holds trials made otherwise \({keys}\); restore these"):
            check_same_kind(study, SweepConfig(**{"name": "little", "space": SPACE, **changed}), elsewhere)
    more = {
        "trials": 99,
        "hours": 2,
        "at_once": 3,
        "resources": TrialResources(workers=2),
        "final": {"train.epochs": 9},
    }
    _, study = make(elsewhere, **more, algorithm="random", fixed={"train.threads": 2})
    assert len(study.trials) == 1


def test_a_study_that_does_not_say_what_its_trials_are_made_of_goes_on() -> None:
    older = optuna.create_study()
    older.set_user_attr("objective", ["selected"])
    check_same_kind(older, SweepConfig(space=SPACE), Path())
    with pytest.raises(UserError, match=r"\(train.epochs\)"):
        check_same_kind(older, SweepConfig(space=SPACE, fixed={"train.epochs": 8}))


def test_front_and_balance_agree_with_brute_force() -> None:
    points = np.random.default_rng(0).integers(0, 6, (40, 2)).astype(float)
    kept = set(pareto_indices(points.tolist()))
    for i, a in enumerate(points):
        beaten = any((b >= a).all() and (b > a).any() for b in points)
        assert (i in kept) != beaten
    places = (points - points.min(0)) / (points.max(0) - points.min(0))
    assert balanced_sum(points.tolist()) == pytest.approx(places.sum(1).tolist())


def test_two_objectives_mark_their_front_and_train_a_balanced_one_out(tmp_path: Path) -> None:
    _, study = make(tmp_path, objective=["quality", "captioning"])
    for pair in ((0.9, 0.1), (0.7, 0.4), (0.2, 0.5), (0.6, 0.3)):
        study.tell(ask(study), pair)
    rows = trial_rows(study, tmp_path)
    assert {row["trial"]: row["front"] for row in rows} == {0: "*", 1: "*", 2: "*", 3: ""}
    assert [rows[0]["trial"], rows[-1]["trial"]] == [1, 3]
    assert {t.number for t in study.best_trials} == {0, 1, 2}  # Optuna's own front
    assert best_trial(study).number == 1
    assert "front" in dict(study_figures(study))
    with pytest.raises(UserError, match=r"\(objective\); restore these, or give the sweep another name"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("algorithm", "objectives"), [("tpe", 1), ("tpe", 2), ("gp", 1), ("gp", 2), ("random", 1), ("nsga2", 2)]
)
def test_algorithms_draw_inside_the_space(tmp_path: Path, algorithm: str, objectives: int) -> None:
    sweep = SweepConfig(space=SPACE, algorithm=algorithm, startup=3)
    study = optuna.create_study(directions=["maximize"] * objectives, sampler=make_sampler(sweep))
    for _ in range(5):
        trial = ask(study)
        assert all(domain_contains(SPACE[key], value) for key, value in trial.params.items())
        assert trial.params.keys() == SPACE.keys()
        study.tell(trial, list(trial.params.values())[:objectives])


def test_a_search_gone_on_with_does_not_draw_its_first_values_once_more(tmp_path: Path) -> None:
    sweep = SweepConfig(space=SPACE, startup=10)
    study = optuna.create_study(sampler=make_sampler(sweep))
    first = [ask(study).params for _ in range(3)]
    study.sampler = make_sampler(sweep, drawn=len(study.trials))
    assert [params for params in (ask(study).params for _ in range(3)) if params in first] == []
    study.sampler = make_sampler(sweep)
    assert ask(study).params == first[0]  # which is what it would do otherwise


def test_figures_name_the_key_that_matters(tmp_path: Path) -> None:
    _, study = make(tmp_path, algorithm="random")
    assert parameter_importances(study) == {} or sum(parameter_importances(study).values()) == 0
    for _ in range(30):
        trial = ask(study)
        study.tell(trial, 10 * trial.params["model.mos.dropout"] + 0.1 * trial.params["model.decoder.dropout"])
    shares = parameter_importances(study)
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda key: shares[key]) == "model.mos.dropout"
    made = dict(study_figures(study))
    assert list(made) == ["history_selected", "values_selected", "parallel_selected", "importances_selected"]
    labels = [label.get_text() for label in made["importances_selected"].axes[0].get_yticklabels()]
    assert labels[-1] == "mos.dropout"  # the largest on top


def test_starting_points_come_from_an_earlier_sweep_and_presets(tmp_path: Path) -> None:
    _, earlier = make(tmp_path)
    for score in (0.1, 0.9, 0.5):
        earlier.tell(ask(earlier), score)
    (tmp_path / "preset.yaml").write_text("train: {lr: 0.01}\nmodel: {mos: {dropout: 0.9}, decoder: {dropout: 0.4}}")
    narrow = {key: SPACE[key] for key in ("train.lr", "model.decoder.dropout")}
    sweep = SweepConfig(name="next", space=narrow, start=["little", str(tmp_path / "preset.yaml"), {"train.lr": 0.001}])
    best = earlier.best_params
    assert start_points(sweep, tmp_path / "runs") == [
        {"train.lr": best["train.lr"], "model.decoder.dropout": best["model.decoder.dropout"]},
        {"train.lr": 0.01, "model.decoder.dropout": 0.4},
        {"train.lr": 0.001},
    ]
    with pytest.raises(UserError, match="sweep-nowhere: holds no trials"):
        start_points(SweepConfig(space=narrow, start=["nowhere"]), tmp_path / "runs")


def test_hours_count_overlapping_trials_once() -> None:
    study = optuna.create_study()
    day = datetime(2030, 1, 1)
    for begin, end in ((0, 2), (1, 3), (1, 2), (5, 6)):
        trial = optuna.trial.create_trial(value=0.0)
        trial.datetime_start, trial.datetime_complete = day + timedelta(hours=begin), day + timedelta(hours=end)
        study.add_trial(trial)
    assert spent_hours(study) == pytest.approx(4)
