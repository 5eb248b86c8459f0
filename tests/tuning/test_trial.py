"""What a trial does when memory runs out, and what stops a sweep; training is real, Ray is not started."""

from pathlib import Path

import pytest
import torch

from src.common.errors import UserError, is_out_of_memory
from src.config.loader import load_config
from src.data.batch import Batch
from src.tracking.run_registry import list_runs
from src.training.lightning_module import MultitaskModule
from src.tuning.trial import train_within_memory
from src.tuning.trial_progress import FailureLimit, failure_kind
from tests.training.test_run import experiment

TOO_MUCH = 1 << 50  # bytes


def test_torch_says_that_memory_ran_out() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(TOO_MUCH, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert failure_kind(f"RuntimeError: {caught.value}") == "out of memory"
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_a_batch_too_large_is_halved_once_within_the_same_run(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(experiment(elsewhere, epochs=1, checkpoint_steps=0, ema=0.0))
    config.track.name = "trial"
    reports: list[dict[str, float]] = []
    monkeypatch.setattr("src.tuning.trial.tune.report", reports.append)
    step = MultitaskModule.training_step

    def training_step(self: MultitaskModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        if len(batch) > 2:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(MultitaskModule, "training_step", training_step)
    result = train_within_memory(config, ["quality"], {"train.lr": 0.1}, {"sweep": "little"})
    assert (config.train.batch_size, config.train.accumulate) == (2, 2)
    assert reports[0].keys() == {"selected", "quality", "epoch"}
    run = list_runs("multitask")[0]
    assert [one.id for one in list_runs("multitask")] == [result["run_id"]]
    assert (run.status, run.params["search.lr"]) == ("FINISHED", "0.1")
    assert {name: run.tags[name] for name in ("sweep", "status", "batch")} == {
        "sweep": "little",
        "status": "finished",
        "batch": "halved",
    }


def test_a_sweep_stops_when_too_many_fail_for_one_reason() -> None:
    failures = FailureLimit(2)
    failures.add("UserError: the loss at epoch 3, batch 1 is not finite (loss nan); lower train.lr")
    failures.add("ValueError: something else")
    assert not failures.stop_all()
    failures.check("little")
    failures.add("UserError: the loss at epoch 0, batch 12 is not finite (loss inf); lower train.lr")
    assert failures.stop_all()
    with pytest.raises(UserError, match="little: stopped, since 2 trials failed for one reason: UserError: the loss"):
        failures.check("little")
    never = FailureLimit(0)
    never.add("x")
    assert not never.stop_all()
