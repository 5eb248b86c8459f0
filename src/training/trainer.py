"""The training loop of one run: Lightning's trainer with its callbacks, resumed from the last checkpoint.
Held by tests/training/test_run.py.
"""

from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer
from lightning.pytorch.loggers.logger import Logger

from src.common.device import best_device, resolve_precision
from src.config.schema import Config, TrainConfig
from src.tracking.mlflow_tracker import Tracker
from src.tracking.run_folder import RunFolder
from src.training.checkpointing import AtomicCheckpointIO, checkpoint_callbacks
from src.training.datamodule import DataModule
from src.training.ema import WeightEMA
from src.training.epoch_progress import EpochProgress
from src.training.lightning_module import MultitaskModule

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class TrackerLogger(Logger):
    """Passes Lightning's metrics to the tracker."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        self.tracker = tracker

    @property
    def name(self) -> str:
        """Fixed: the tracker knows the run's name."""
        return "tracker"

    @property
    def version(self) -> str:
        """Fixed: a run has one folder."""
        return ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Logs metrics at a step."""
        self.tracker.log_metrics(metrics, step or 0)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the whole config is logged at the run's start."""


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that also holds for a run that was killed after it had stopped."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops where the checkpoint was the last."""
        trainer.should_stop |= self.wait_count >= self.patience


def make_trainer(
    config: Config,
    folder: RunFolder,
    tracker: Tracker | None,
    extra_callbacks: list[Callback] | None = None,
    world: int = 1,
) -> Trainer:
    """Lightning's trainer as configured.

    Args:
        config: the run's.
        folder: the run's.
        tracker: None in a process that is not the group's first, and logs nothing.
        extra_callbacks: beside the usual ones.
        world: processes that train together, as workers of Ray Train.
    """
    train = config.train
    view = [EpochProgress()] if tracker else []
    return Trainer(
        max_epochs=train.stop_after or train.epochs,
        precision=PRECISION[resolve_precision(train.precision, best_device())],
        accumulate_grad_batches=train.accumulate,
        gradient_clip_val=train.clip or None,
        check_val_every_n_epoch=train.eval_every,
        num_sanity_val_steps=0,  # scores of two batches have no meaning
        log_every_n_steps=10,
        logger=TrackerLogger(tracker) if tracker else False,
        callbacks=[*trainer_callbacks(config, folder), *view, *(extra_callbacks or [])],
        default_root_dir=folder.path,
        use_distributed_sampler=False,  # TrainBatchSampler shards by itself
        enable_model_summary=False,
        enable_progress_bar=False,
        **device_arguments(world),
    )


def device_arguments(world: int) -> dict[str, Any]:
    """The trainer's device arguments: one device here, or that of each of Ray Train's workers, joined by DDP."""
    if world == 1:
        return {"devices": 1, "plugins": [AtomicCheckpointIO()]}
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    # Unused: a worker's part of a batch may have no image with one of the labels.
    strategy = RayDDPStrategy(find_unused_parameters=True)
    return {"devices": "auto", "strategy": strategy, "plugins": [AtomicCheckpointIO(), RayLightningEnvironment()]}


def trainer_callbacks(config: Config, folder: RunFolder) -> list[Callback]:
    """Checkpoints, and as configured: moving average of weights, early stopping, a time limit."""
    train, select = config.train, "" if config.data.train_on_val else "val/selected"
    result = checkpoint_callbacks(folder.checkpoint.parent, select, train.checkpoint_steps)
    if train.ema:
        result.append(WeightEMA(train))
    if train.patience:
        result.append(
            ResumableEarlyStopping("val/selected", mode="max", patience=max(1, train.patience // train.eval_every))
        )
    if train.minutes:
        result.append(Timer(timedelta(minutes=train.minutes), interval="step"))
    return result


def fit_model(
    config: TrainConfig, module: MultitaskModule, data: DataModule, folder: RunFolder, trainer: Trainer
) -> None:
    """Trains, from the run's last checkpoint where there is one, and loads the best weights into the module's model.

    A mos head that is fitted at once leaves nothing to train where there is no decoder.
    """
    if config.epochs == 0 or not (module.model.decoder or module.model.learns_mos):
        return
    last, batches = folder.checkpoint, data.train_loader()
    if last.exists():  # Lightning itself does so only where the checkpoint is from within an epoch
        loops = torch.load(last, weights_only=True, map_location="cpu")["loops"]
        batches.load_state_dict(loops["fit_loop"]["state_dict"]["combined_loader"][0])
    # Not the trainer's own estimate, which sets the loader up too early to get its state from a checkpoint.
    module.steps = config.epochs * -(-len(batches) // config.accumulate)
    trainer.fit(
        module,
        train_dataloaders=batches,
        val_dataloaders=None if data.config.data.train_on_val else data.val_loader(config.eval_photos),
        ckpt_path=str(last) if last.exists() else None,
        weights_only=True,
    )
    if trainer.interrupted:
        raise KeyboardInterrupt
    best = folder.best if folder.best.exists() else last
    module.load_state_dict(torch.load(best, weights_only=True, map_location="cpu")["state_dict"])
