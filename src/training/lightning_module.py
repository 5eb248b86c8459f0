"""The Lightning module: losses in training, scores in validation, AdamW with warm-up and a schedule."""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from src.common.errors import UserError
from src.common.process_group import ProcessGroup
from src.config.schema import Config, TrainConfig
from src.data.batch import Batch
from src.data.tokenizer import Tokenizer
from src.inference.predictions import Predictions, predict_batch, score_predictions
from src.metrics.meteor import Meteor
from src.models.multitask import CaptionLoss, MultitaskModel
from src.training.self_critical import SelfCriticalLoss


class MultitaskModule(LightningModule):
    """Trains a Multitask model.

    Logs train/LOSS at steps, val/LOSS and val/SCORE at epochs, and val/selected, the score to select on.
    """

    def __init__(
        self,
        model: MultitaskModel,
        config: Config,
        tokenizer: Tokenizer,
        meteor: Meteor | None = None,
        critic: SelfCriticalLoss | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config, self.tokenizer, self.meteor, self.critic = model, config, tokenizer, meteor, critic
        self.group = group or ProcessGroup()
        self.answers: list[Predictions] = []
        self.losses: list[tuple[int, dict[str, float]]] = []  # photos and losses of each validation batch
        self.seconds = 0.0  # of training, evaluations left out, over all resumptions
        self.began = 0.0
        self.steps = 1  # of the optimiser, in the whole run; `fit` knows
        self.captions = 0  # that training has seen, over all resumptions

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the time spent and the captions seen."""
        checkpoint["seconds"], checkpoint["captions"] = self.seconds, self.captions

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the time spent and the captions seen up again."""
        self.seconds, self.captions = checkpoint["seconds"], checkpoint.get("captions", 0)  # older ones count none

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Counts the time that training takes, waiting for data included."""
        now = time.perf_counter()
        self.seconds, self.began = self.seconds + now - self.began, now

    def on_train_epoch_start(self) -> None:
        """Starts the clock."""
        self.began = time.perf_counter()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Makes dropout a function of seed and step alone, so that a resumed run draws what the whole run drew.

        Counts captions here, since the checkpoint of a step is written before on_train_batch_end.
        """
        rows: Tensor | list[int] = batch.captioning.rows if batch.captioning is not None else []
        self.captions += self.group.sum(int((batch.tokens[rows, :, 0] > 0).sum()))[0]
        torch.manual_seed(
            (self.config.train.seed << 32) + (self.current_epoch << 20) + batch_idx * 64 + self.global_rank
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The weighted total loss of a batch.

        Raises:
            UserError: the loss is not finite; names the batch's photos.
        """
        losses = self.model.losses(batch, self._caption_loss(batch_idx), self.group)
        if not torch.isfinite(losses["loss"]):
            parts = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
            where = f"the loss at epoch {self.current_epoch}, batch {batch_idx} is not finite ({parts})"
            raise UserError(f"{where}; lower train.lr, or look at its photos: {', '.join(batch.names)}")
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=len(batch))
        return losses["loss"]

    def _caption_loss(self, batch_idx: int) -> CaptionLoss | None:
        """The captions' loss where it is not the usual one: in a run's last epochs, as configured."""
        train = self.config.train
        if self.critic is None or self.current_epoch < train.written_epochs:
            return None
        self.critic.seed = train.seed + (self.current_epoch << 20) + batch_idx + (self.global_rank << 40)
        return self.critic

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects the losses, mos and captions of a batch."""
        losses = self.model.losses(batch)
        self.losses.append((len(batch), {name: value.item() for name, value in losses.items()}))
        self.answers.append(predict_batch(self.model, batch, self.config.generate, self.tokenizer))

    def on_validation_epoch_end(self) -> None:
        """Scores all answers at once; a correlation or a CIDEr-D is no mean over batches."""
        parts = self.group.gather((self.answers, self.losses))
        self.answers, self.losses = [], []
        scores: dict[str, float] = {}
        if self.group.rank == 0:
            answers = Predictions.join(batch for answers, _ in parts for batch in answers)
            scores = weighted_means([batch for _, losses in parts for batch in losses])
            scores |= {name: value.value for name, value in score_predictions(answers, self.meteor).items()}
            scores["selected"] = selection_score(scores, self.config.train.select)
        for name, value in self.group.from_first(scores).items():  # what stops or keeps a model is known to all
            self.log(f"val/{name}", value, prog_bar=name == "selected")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch on the device; pixels that both tasks share stay shared."""
        return batch.to(device)

    def configure_optimizers(self) -> Any:
        """AdamW; weight decay on matrices only, the backbone at its own learning rate."""
        train = self.config.train
        groups = parameter_groups(self.model, train)
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
        if train.schedule == "plateau":
            plateau = ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=2)
            rule = {"scheduler": plateau, "monitor": "val/selected", "frequency": train.eval_every}
            return {"optimizer": optimizer, "lr_scheduler": rule}
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": lr_schedule(optimizer, train, self.steps), "interval": "step"},
        }

    def lr_scheduler_step(self, scheduler: LRScheduler | ReduceLROnPlateau, metric: Any) -> None:
        """Steps the schedule; the plateau rule looks at the selected score."""
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(metric)
        else:
            scheduler.step()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Steps the optimiser; warms up by hand before a plateau schedule, which has no notion of steps."""
        train, optimizer = self.config.train, self.optimizers(use_pl_optimizer=False)
        warm = train.warmup * self.steps
        if train.schedule == "plateau" and self.global_step <= warm and isinstance(optimizer, torch.optim.Optimizer):
            for group in optimizer.param_groups:
                group["lr"] = group["initial"] * min(1.0, (self.global_step + 1) / max(1.0, warm))
        super().optimizer_step(*args, **kwargs)


def weighted_means(batches: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Each loss's mean over the photos of those batches that have it."""
    names = dict.fromkeys(name for _, losses in batches for name in losses)
    having = {name: [(count, losses[name]) for count, losses in batches if name in losses] for name in names}
    return {name: sum(n * x for n, x in some) / sum(n for n, _ in some) for name, some in having.items()}


def selection_score(scores: dict[str, float], select: str) -> float:
    """The number to select on: a named score, or `auto`: both tasks' sum relative to the 6th place's public result.

    Where no METEOR can be computed, the captions' part of `auto` is CIDEr-D alone.

    Raises:
        UserError: no such score; names those there are.
    """
    if select != "auto":
        if select not in scores:
            raise UserError(f"train.select: no score is called {select}; there are: {', '.join(scores)}")
        return scores[select]
    if "cider_d" in scores and "captioning" not in scores:
        return scores["cider_d"] + scores.get("quality", 0.0) / 0.7874
    return scores.get("combined", 0.0)


def parameter_groups(model: MultitaskModel, train: TrainConfig) -> list[dict[str, Any]]:
    """Trained parameters in groups for AdamW: backbone or heads, matrices with and the rest without weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
    result = []
    for (backbone, matrix), parameters in sorted(groups.items(), key=lambda item: item[0]):
        lr = train.backbone_lr if backbone else train.lr
        decay = train.weight_decay if matrix else 0.0
        result.append({"params": parameters, "lr": lr, "initial": lr, "weight_decay": decay})
    return result


def lr_schedule(optimizer: torch.optim.Optimizer, train: TrainConfig, steps: int) -> LambdaLR:
    """Linear warm-up, then a cosine to 0 (Loshchilov and Hutter 2017) or a constant, over `steps` optimiser steps.

    Self-critical epochs have a schedule of their own.
    """
    late = round(steps * train.self_critical.epochs / train.epochs)
    first, peak = steps - late, train.self_critical.lr / train.lr

    def factor(step: int) -> float:
        if step < first:
            return lr_factor(step, first, train)
        return peak * lr_factor(step - first, late, train)

    return LambdaLR(optimizer, factor)


def lr_factor(step: int, steps: int, train: TrainConfig) -> float:
    """The learning rate at a step, as a part of its peak."""
    warm = max(1, round(train.warmup * steps))
    if step < warm:
        return (step + 1) / warm
    if train.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))
