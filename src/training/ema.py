"""The exponential moving average of weights, which is evaluated and saved in their place.
Held by tests/training/test_self_critical.py.
"""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from src.config.schema import TrainConfig


class WeightEMA(WeightAveraging):
    """Exponential moving average after each step; self-critical epochs may start from it, with a decay of their own.

    After n updates the decay is at most (1 + n) / (10 + n), or the first weights would dominate short runs.
    """

    def __init__(self, train: TrainConfig) -> None:
        """The decays and epochs of a run."""
        super().__init__(use_buffers=False, multi_avg_fn=self._update)
        self.train, self.decay = train, train.ema

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Chooses the decay; before the first self-critical step, puts the average in the weights' place."""
        late = self.train.self_critical.ema
        if not late or trainer.current_epoch < self.train.written_epochs:
            return
        self.decay = late
        if trainer.current_epoch == self.train.written_epochs and batch_idx == 0:
            self._copy_average_to_current(pl_module)

    @torch.no_grad()
    def _update(self, averaged: Any, current: Any, updates: Tensor | int) -> None:
        n = float(updates)
        torch._foreach_lerp_(averaged, current, 1 - min(self.decay, (1 + n) / (10 + n)))
