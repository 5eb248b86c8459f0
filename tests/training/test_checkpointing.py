"""Checkpoints on a full disk, and in a folder that was moved."""

import resource
import signal
from pathlib import Path

import pytest
import torch

from src.common.errors import UserError
from src.training.checkpointing import AtomicCheckpointIO, MovableCheckpoint


def test_a_full_disk_leaves_the_checkpoint_before_whole(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": torch.ones(10)}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as a disk that takes 100 kB more
    try:
        with pytest.raises(UserError, match=r"last.ckpt: cannot be saved.*make room"):
            AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert torch.load(path, weights_only=True)["x"].sum() == 10
    assert list(tmp_path.iterdir()) == [path]


def test_the_best_checkpoint_is_known_in_a_folder_that_was_moved(tmp_path: Path) -> None:
    old, new = (MovableCheckpoint(tmp_path / name, "best", monitor="x", mode="max") for name in ("old", "new"))
    best = str(tmp_path / "old" / "best.ckpt")
    old.best_model_path, old.kth_best_model_path, old.best_k_models = best, best, {best: torch.tensor(0.7)}
    old.best_model_score = old.kth_value = torch.tensor(0.7)
    new.load_state_dict(old.state_dict())
    moved = str(tmp_path / "new" / "best.ckpt")
    assert (new.best_model_path, new.kth_best_model_path, new.best_model_score) == (moved, moved, 0.7)
    assert new.best_k_models == {moved: 0.7}
