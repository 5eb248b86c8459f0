"""The Lightning module: losses in training, scores in validation. Held by tests/training/test_run.py."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from src.common.errors import UserError
from src.common.process_group import ProcessGroup
from src.config.schema import Config
from src.data.batch import Batch
from src.data.tokenizer import Tokenizer
from src.inference.predictions import Predictions, predict_batch, score_predictions
from src.metrics.meteor import Meteor
from src.models.multitask import CaptionLoss, MultitaskModel
from src.training.optimizer import make_optimizer, warm_up
from src.training.self_critical import SelfCriticalLoss


class MultitaskModule(LightningModule):
    """Trains a MultitaskModel.

    Logs train/LOSS at steps, val/LOSS and val/SCORE at epochs, and val/selected, the score that selects the best epoch.

    Attributes:
        seconds: of training, without evaluations, over all resumptions.
        captions: that training has read, over all resumptions.
        steps: of the optimiser, in the whole run; fit_model sets it.
    """

    def __init__(
        self,
        model: MultitaskModel,
        config: Config,
        tokenizer: Tokenizer,
        meteor: Meteor | None = None,
        self_critical: SelfCriticalLoss | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config, self.tokenizer, self.meteor = model, config, tokenizer, meteor
        self.self_critical, self.group = self_critical, group or ProcessGroup()
        self.predictions: list[Predictions] = []
        self.losses: list[tuple[int, dict[str, float]]] = []  # images and losses of each validation batch
        self.seconds, self.captions, self.steps = model.mos.seconds if model.mos else 0.0, 0, 1
        self.clock = 0.0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves the time spent and the captions read."""
        checkpoint["seconds"], checkpoint["captions"] = self.seconds, self.captions

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the time spent and the captions read."""
        self.seconds, self.captions = checkpoint["seconds"], checkpoint["captions"]

    def on_train_epoch_start(self) -> None:
        """Starts the clock."""
        self.clock = time.perf_counter()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Adds the time of a step, waiting for data included."""
        now = time.perf_counter()
        self.seconds, self.clock = self.seconds + now - self.clock, now

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Makes dropout a function of seed and step alone, so that a resumed run draws the same numbers.

        Counts captions here, since the checkpoint of a step is written before on_train_batch_end.
        """
        rows: Tensor | list[int] = batch.caption_input.rows if batch.caption_input is not None else []
        self.captions += self.group.sum(int((batch.tokens[rows, :, 0] > 0).sum()))[0]
        torch.manual_seed(
            (self.config.train.seed << 32) + (self.current_epoch << 20) + batch_idx * 64 + self.global_rank
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The weighted total loss of a batch.

        Raises:
            UserError: the loss is not finite; names the batch's images.
        """
        losses = self.model.losses(batch, self._caption_loss(batch_idx), self.group)
        if not torch.isfinite(losses["loss"]):
            parts = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
            where = f"the loss at epoch {self.current_epoch}, batch {batch_idx} is not finite ({parts})"
            raise UserError(f"{where}; lower train.lr, or look at its photos: {', '.join(batch.names)}")
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=len(batch))
        return losses["loss"]

    def _caption_loss(self, batch_idx: int) -> CaptionLoss | None:
        """The self-critical loss in a run's last epochs, as configured; None: the cross-entropy."""
        train = self.config.train
        if self.self_critical is None or self.current_epoch < train.written_epochs:
            return None
        self.self_critical.seed = train.seed + (self.current_epoch << 20) + batch_idx + (self.global_rank << 40)
        return self.self_critical

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects the losses and predictions of a batch."""
        losses = self.model.losses(batch)
        if len(losses) > 1:  # a head has learned from images like these
            self.losses.append((len(batch), {name: value.item() for name, value in losses.items()}))
        self.predictions.append(predict_batch(self.model, batch, self.config.generate, self.tokenizer))

    def on_validation_epoch_end(self) -> None:
        """Scores all predictions at once; a correlation or a CIDEr-D is no mean over batches."""
        parts = self.group.gather((self.predictions, self.losses))
        self.predictions, self.losses = [], []
        scores: dict[str, float] = {}
        if self.group.rank == 0:
            predictions = Predictions.join(batch for process, _ in parts for batch in process)
            scores = weighted_means([batch for _, losses in parts for batch in losses])
            values = score_predictions(predictions, self.meteor).scores
            scores |= {name: score.value for name, score in values.items()}
            scores["selected"] = selection_score(scores, self.config.train.select)
        for name, value in self.group.broadcast(scores).items():  # callbacks of all processes act on the scores
            self.log(f"val/{name}", value, prog_bar=name == "selected")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch on the device; pixels that both tasks share stay shared."""
        return batch.to(device)

    def configure_optimizers(self) -> Any:
        """AdamW with a schedule: see make_optimizer."""
        return make_optimizer(self.model, self.config.train, self.steps)

    def lr_scheduler_step(self, scheduler: LRScheduler | ReduceLROnPlateau, metric: Any) -> None:
        """Steps the schedule; the plateau rule takes the selected score."""
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(metric)
        else:
            scheduler.step()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Steps the optimiser; warms up before a plateau schedule, which does not count steps."""
        train, optimizer = self.config.train, self.optimizers(use_pl_optimizer=False)
        warm = train.warmup * self.steps
        if train.schedule == "plateau" and self.global_step <= warm and isinstance(optimizer, torch.optim.Optimizer):
            warm_up(optimizer, self.global_step, warm)
        super().optimizer_step(*args, **kwargs)


def weighted_means(batches: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Each loss's mean over the images of those batches that have it."""
    names = dict.fromkeys(name for _, losses in batches for name in losses)
    values = {name: [(count, losses[name]) for count, losses in batches if name in losses] for name in names}
    return {name: sum(n * x for n, x in pairs) / sum(n for n, _ in pairs) for name, pairs in values.items()}


def selection_score(scores: dict[str, float], select: str) -> float:
    """The score that selects the best epoch: a named one, or `auto`: both tasks' sum relative to the 6th place's.

    Without METEOR, the captions' part of `auto` is CIDEr-D alone.

    Raises:
        UserError: there is no such score; names those there are.
    """
    if select != "auto":
        if select not in scores:
            raise UserError(f"train.select: no score is called {select}; there are: {', '.join(scores)}")
        return scores[select]
    if "cider_d" in scores and "captioning" not in scores:
        return scores["cider_d"] + scores.get("quality", 0.0) / 0.7874
    return scores.get("combined", 0.0)
