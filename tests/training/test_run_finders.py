"""Settings that a run finds for itself: they are stored, and training with them is that of a run that names them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from src.common.errors import UserError
from src.tracking.run_registry import list_runs
from src.train import main
from src.training import run_finders
from src.training.config_checks import check_config
from src.training.run_finders import fits_memory, largest_power, smooth_losses, steepest_lr
from tests.tiny import tiny_config
from tests.training.test_run import QUALITY, cut_short, experiment, last_weights

TOO_MUCH = 1 << 50  # bytes


def test_a_run_with_found_settings_is_that_of_a_run_with_these_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "auto").mkdir()
    monkeypatch.chdir(tmp_path / "auto")
    file = str(experiment(tmp_path / "auto", epochs=2, ema=0.0, lr="auto", batch_size="auto"))
    step = "src.training.lightning_module:MultitaskModule.training_step"
    cut_short(monkeypatch, step, 2, file)
    found = json.loads(Path("runs/tiny/found_settings.json").read_text())
    assert found["batch_size"] == 16  # of 16 training images
    assert 1e-5 < found["lr"] < 1
    with monkeypatch.context() as patch:
        patch.delattr(run_finders, "range_test")  # the resumed run takes the stored numbers
        assert main(["--config", file, *QUALITY]) == 0
    assert Path("runs/tiny/plots/lr_range.png").exists()
    saved = yaml.safe_load(Path("runs/tiny/model/config.yaml").read_text())["train"]
    assert (saved["lr"], saved["batch_size"]) == (found["lr"], 16)
    [run] = list_runs()
    assert (run.metrics["found/lr"], run.metrics["found/batch_size"]) == (pytest.approx(found["lr"]), 16)

    (tmp_path / "number").mkdir()
    monkeypatch.chdir(tmp_path / "number")
    file = str(experiment(tmp_path / "number", epochs=2, ema=0.0, lr=found["lr"], batch_size=16))
    assert main(["--config", file, *QUALITY]) == 0
    assert not Path("runs/tiny/found_settings.json").exists()
    auto, number = (last_weights(tmp_path / name) for name in ("auto", "number"))
    assert [name for name in number if not number[name].equal(auto[name])] == []


def test_the_chosen_rate_is_just_after_the_steepest_fall_of_the_loss() -> None:
    rates, steepest = np.logspace(-6, 0, 100), 2e-3
    noise = np.random.default_rng(0).normal(0, 0.01, 100)
    rise = 5 * np.maximum(0, np.log10(rates) + 1.5) ** 2
    losses = 1 - 0.8 / (1 + (steepest / rates) ** 1.5) + rise + noise  # a logistic curve over the logarithm
    lag = (rates[1] / rates[0]) ** (0.9 / (1 - 0.9))  # of the moving average, 9 steps
    chosen = steepest_lr(rates.tolist(), losses.tolist())
    assert steepest < chosen < steepest * lag * 1.2
    with pytest.raises(UserError, match="train.lr: auto: the loss falls at no learning rate"):
        steepest_lr(rates.tolist(), np.linspace(1, 2, 100).tolist())
    with pytest.raises(UserError, match="falls at no learning rate"):
        steepest_lr(rates[:5].tolist(), [1.0, 1.0, 1.0, 9.0, float("nan")])


def test_smoothed_losses_are_means_with_falling_weights() -> None:
    losses = [3.0, 1.0, 2.0]
    weights = np.array([0.81, 0.9, 1.0])
    assert smooth_losses(losses)[-1] == pytest.approx((weights * losses).sum() / weights.sum())


def allocate_bytes(count: int) -> None:
    torch.empty(count, dtype=torch.uint8)


def view_wrongly() -> None:
    torch.zeros(2).view(3)


def test_the_batch_doubles_until_memory_runs_out() -> None:
    tried = []

    def allocate(size: int) -> bool:
        tried.append(size)
        return fits_memory(lambda: allocate_bytes(TOO_MUCH if size > 8 else size))

    assert largest_power(1000, allocate) == 8
    assert tried == [1, 2, 4, 8, 16]
    assert largest_power(7, lambda size: True) == 4
    with pytest.raises(UserError, match="train.batch_size: a single photo exceeds the memory"):
        largest_power(8, lambda size: fits_memory(lambda: allocate_bytes(TOO_MUCH)))
    with pytest.raises(RuntimeError, match="shape"):
        fits_memory(view_wrongly)


@pytest.mark.parametrize("key", ["lr", "batch_size"])
def test_several_workers_find_nothing(key: str) -> None:
    config = tiny_config()
    config.train.workers = 2
    setattr(config.train, key, "auto")
    with pytest.raises(UserError, match=r"train.workers: one process finds train.lr and train.batch_size"):
        check_config(config)
