"""Checkpoints on a full disk."""

import resource
import signal
from pathlib import Path

import pytest
import torch

from src.common.errors import UserError
from src.training.checkpointing import AtomicCheckpointIO


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
