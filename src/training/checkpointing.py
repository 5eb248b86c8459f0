"""Checkpoints for resuming: written whole or not at all, so that the previous one survives a full disk or a kill."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from src.common.errors import UserError
from src.common.files import atomic_write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Saves beside the old checkpoint, then moves the new one onto it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Raises UserError, the old checkpoint untouched, where the disk takes no more."""
        try:
            with atomic_write(Path(path)) as part:
                torch.save(checkpoint, part)
        except (OSError, RuntimeError) as error:  # torch's writer turns a failed write into a RuntimeError
            raise UserError(
                f"{path}: cannot be saved ({str(error).splitlines()[0]}); the checkpoint before it is whole: "
                "make room and give the same command again"
            ) from error


class MovableCheckpoint(ModelCheckpoint):
    """Knows its checkpoints again where the run's folder was moved: Lightning would forget the best score."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the checkpoints of the folder at that time for those of the same names in the folder now."""
        state = state_dict | {"dirpath": self.dirpath}
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = self._path_now(state[key])
        state["best_k_models"] = {self._path_now(path): score for path, score in state["best_k_models"].items()}
        super().load_state_dict(state)

    def _path_now(self, path: str) -> str:
        return str(Path(self.dirpath or "") / Path(path).name) if path else path


class StepCheckpoint(MovableCheckpoint):
    """Checkpoints within an epoch, but not at its last batch: each_epoch saves after the evaluation."""

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Saves after every_n_train_steps steps."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *args, **kwargs)


def checkpoint_callbacks(folder: Path, select: str, steps: int) -> list[Callback]:
    """Callbacks that write last.ckpt (each epoch, and each `steps` steps if not 0) and best.ckpt (highest `select`).

    Without a `select` there is no best.ckpt.
    """
    options: dict[str, Any] = {"dirpath": folder, "auto_insert_metric_name": False, "enable_version_counter": False}
    best = [MovableCheckpoint(filename="best", monitor=select, mode="max", save_top_k=1, **options)] if select else []
    each_epoch = MovableCheckpoint(filename="last", save_on_train_epoch_end=True, **options)
    if not steps:
        return [*best, each_epoch]
    return [*best, each_epoch, StepCheckpoint(filename="last", every_n_train_steps=steps, **options)]
