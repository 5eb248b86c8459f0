"""The view of a training run: a bar over the batches of an epoch, and a line for each finished epoch.

Held by tests/training/test_run.py.
"""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from src.common.progress import progress_bar, progress_line

SCORES = ("selected", "plcc", "srcc", "cider_d", "bleu_4")  # of an evaluation, in the line of its epoch


class EpochProgress(Callback):
    """Shows the batches of training and of evaluation, and prints an epoch's losses, scores and seconds."""

    def __init__(self) -> None:
        self.bar = progress_bar(None, "", show=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar of the first epoch, which a resumed run may enter in its middle."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar of an epoch."""
        self.bar.close()
        self.start, self.sums, self.batches = time.monotonic(), dict[str, Tensor](), 0
        self.title = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.bar = progress_bar(int(trainer.num_training_batches), self.title, "batch")

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Advances the bar; adds the losses up without waiting for the device."""
        self.bar.update()
        self.batches += 1
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train/"):
                self.sums[name] = self.sums[name] + value if name in self.sums else value

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar of an evaluation in the place of the epoch's."""
        self.bar.close()
        self.bar = progress_bar(int(sum(trainer.num_val_batches)), f"{self.title}, evaluation", "batch")

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Advances the bar."""
        self.bar.update()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the epoch's line in the place of the bar."""
        self.bar.close()
        losses = {name: float(total) / self.batches for name, total in self.sums.items()}
        evaluated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        scores = {name: float(value) for name, value in trainer.callback_metrics.items()} if evaluated else {}
        progress_line(f"{epoch_line(self.title, losses, scores)}  {time.monotonic() - self.start:.1f} s")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Removes the bar."""
        self.bar.close()


def epoch_line(title: str, losses: dict[str, float], scores: dict[str, float]) -> str:
    """One epoch's mean losses in training, and the scores of its evaluation where it has one.

    Args:
        title: start of the line.
        losses: by the names train/LOSS.
        scores: by the names val/SCORE; empty: the epoch has no evaluation.
    """
    parts = [f"{name.removeprefix('train/')} {value:.3f}" for name, value in losses.items()]
    parts += [f"{name} {scores[f'val/{name}']:.4f}" for name in SCORES if f"val/{name}" in scores]
    return "  ".join([title, *parts])
