"""Settings that a run finds for itself before training: `train.batch_size: auto` and `train.lr: auto`.

Held by tests/training/test_run_finders.py.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from src.common.device import autocast, best_device
from src.common.errors import UserError, is_out_of_memory
from src.common.files import write_text
from src.common.progress import progress_line
from src.config.schema import Config
from src.data.batch import Batch
from src.inference.predictions import predict_batch
from src.models.multitask import MultitaskModel
from src.plots.curves import plot_lr_range
from src.tracking.mlflow_tracker import Tracker
from src.tracking.run_folder import RunFolder
from src.training.datamodule import DataModule
from src.training.optimizer import BETAS, parameter_groups

FOUND = "found_settings.json"  # in the run's folder
CPU_BATCH, LARGEST_BATCH = 64, 4096  # images
LOWEST_LR, HIGHEST_LR, LR_STEPS = 1e-6, 1.0, 100  # of the range test
SMOOTHING, DIVERGENCE = 0.9, 4.0  # of the losses; the test ends at so many times the lowest smoothed loss
SKIPPED = 10  # first steps, whose averages are not smooth yet


def find_settings(
    config: Config, folder: RunFolder, model: MultitaskModel, data: DataModule, tracker: Tracker | None
) -> None:
    """Puts numbers in the place of `auto` in a run's config: those stored in its folder, or else found and stored now.

    Weights and torch's random numbers are afterwards what they were before.

    Raises:
        UserError: a batch of one image exceeds the memory, or the loss falls at no learning rate.
    """
    train, file = config.train, folder.path / FOUND
    if "auto" not in (train.batch_size, train.lr) or tracker is None:
        return
    numbers: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if train.batch_size == "auto":
        numbers["batch_size"] = train.batch_size = numbers.get("batch_size") or find_batch_size(config, model, data)
        progress_line(f"train.batch_size: {train.batch_size}")
    if train.lr == "auto" and train.epochs and (model.decoder is not None or model.learns_mos):
        if "lr" not in numbers:
            numbers["rates"], numbers["losses"] = range_test(config, model, data)
            numbers["lr"] = steepest_lr(numbers["rates"], numbers["losses"])
        train.lr = numbers["lr"]
        progress_line(f"train.lr: {numbers['lr']:.3g}")
        tracker.log_figure(plot_lr_range(numbers["rates"], numbers["losses"], numbers["lr"]), "plots/lr_range.png")
    write_text(file, json.dumps(numbers, indent=1) + "\n")
    tracker.log_metrics({f"found/{name}": numbers[name] for name in ("batch_size", "lr") if name in numbers})


def find_batch_size(config: Config, model: MultitaskModel, data: DataModule) -> int:
    """The largest power of two of images with which a step of training and a prediction fit the GPU; 64 on a CPU.

    At most LARGEST_BATCH, and no more than there are training images.
    """
    most = min(LARGEST_BATCH, len(data.dataset("train")))
    if best_device().type != "cuda":
        return largest_power(most, lambda size: size <= CPU_BATCH)
    with unchanged(model):
        return largest_power(most, lambda size: fits_memory(lambda: run_batch(config, model, data, size)))


def largest_power(most: int, fits: Callable[[int], bool]) -> int:
    """The largest power of two up to `most` for which it and all smaller ones fit.

    Raises:
        UserError: not even 1 fits.
    """
    if not fits(1):
        raise UserError("train.batch_size: a single photo exceeds the memory; choose smaller photos or a smaller model")
    size = 1
    while 2 * size <= most and fits(2 * size):
        size *= 2
    return size


def fits_memory(step: Callable[[], None]) -> bool:
    """Whether a computation leaves a tenth of the GPU's memory free."""
    gpu = torch.cuda.is_available()
    try:
        if gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        step()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    total = torch.cuda.get_device_properties(0).total_memory if gpu else math.inf
    return not gpu or torch.cuda.max_memory_reserved() < 0.9 * total


def run_batch(config: Config, model: MultitaskModel, data: DataModule, size: int) -> None:
    """One step of training with a batch of `size` images, and their prediction."""
    before, config.train.batch_size = config.train.batch_size, size
    try:
        batch = next(iter(data.train_loader())).to(best_device())
    finally:
        config.train.batch_size = before
    model.to(best_device())
    train_step(config, model, head_optimizer(config, model)[0], batch)
    with torch.inference_mode(), autocast(best_device(), config.train.precision):
        predict_batch(model.eval(), batch, config.generate, data.tokenizer)


def range_test(config: Config, model: MultitaskModel, data: DataModule) -> tuple[list[float], list[float]]:
    """Learning rates of the heads, which rise by a factor from step to step, and the loss at each.

    Source: Smith 2017, Cyclical learning rates for training neural networks, section 3.3; there the rate rises by an
    addend. A trained backbone has the rate train.backbone_lr throughout.
    """
    rates: list[float] = []
    losses: list[float] = []
    factor = (HIGHEST_LR / LOWEST_LR) ** (1 / (LR_STEPS - 1))
    with unchanged(model):
        torch.manual_seed(config.train.seed)
        optimizer, heads = head_optimizer(config, model.to(best_device()))
        for step, batch in enumerate(islice(endless_batches(data), LR_STEPS)):
            for group in heads:
                group["lr"] = LOWEST_LR * factor**step
            loss = train_step(config, model, optimizer, batch.to(best_device()))
            smooth = smooth_losses([*losses, loss])
            if not smooth[-1] <= DIVERGENCE * min(smooth):  # NaN too
                break
            rates.append(LOWEST_LR * factor**step)
            losses.append(loss)
    return rates, losses


def head_optimizer(config: Config, model: MultitaskModel) -> tuple[torch.optim.Optimizer, list[dict[str, Any]]]:
    """The optimiser of training, and those of its groups that have the heads' learning rate, now LOWEST_LR."""
    groups = parameter_groups(model, replace(config.train, lr=math.inf))
    heads = [group for group in groups if group["lr"] == math.inf]
    for group in heads:
        group["lr"] = LOWEST_LR
    optimizer = torch.optim.AdamW(groups, betas=BETAS)
    return optimizer, [group for group in optimizer.param_groups if group["initial"] == math.inf]


def train_step(config: Config, model: MultitaskModel, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    """One step of the optimiser, as in training. Returns the loss before it."""
    with autocast(best_device(), config.train.precision):
        loss = model.train().losses(batch)["loss"]
    optimizer.zero_grad()
    loss.backward()
    if config.train.clip:
        nn.utils.clip_grad_norm_(model.parameters(), config.train.clip)
    optimizer.step()
    return loss.item()


def endless_batches(data: DataModule) -> Iterator[Batch]:
    """Training batches of epoch after epoch."""
    loader = data.train_loader()
    while True:
        yield from loader


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restores weights, place and mode of a model, and torch's random numbers, after the block."""
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    modes, home = {module: module.training for module in model.modules()}, next(model.parameters()).device
    with torch.random.fork_rng():
        try:
            yield
        finally:
            model.zero_grad()
            model.to(home).load_state_dict(state)
            for module, mode in modes.items():
                module.training = mode


def smooth_losses(losses: Sequence[float]) -> list[float]:
    """The moving averages of losses, without bias towards 0 at the start."""
    average, result = 0.0, []
    for step, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        result.append(average / (1 - SMOOTHING**step))
    return result


def steepest_lr(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The learning rate at which the smoothed loss falls most steeply over the logarithm of the rate.

    Raises:
        UserError: it falls nowhere.
    """
    smooth = np.array(smooth_losses(losses))
    slopes = np.gradient(smooth[SKIPPED:-1]) if len(smooth) > SKIPPED + 2 else np.zeros(1)
    if not (slopes < 0).any():
        raise UserError("train.lr: auto: the loss falls at no learning rate; set a number, such as 1e-3")
    return float(rates[SKIPPED + int(np.nanargmin(slopes))])
