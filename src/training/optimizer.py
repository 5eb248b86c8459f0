"""AdamW for both heads and the backbone, and the learning rate's schedule."""

import math
from typing import Any

import torch
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from src.config.schema import TrainConfig

BETAS = (0.9, 0.99)  # of AdamW


def make_optimizer(model: nn.Module, train: TrainConfig, steps: int) -> dict[str, Any]:
    """AdamW (Loshchilov and Hutter 2019) and a schedule over `steps` optimiser steps, as Lightning takes them."""
    optimizer = torch.optim.AdamW(parameter_groups(model, train), betas=BETAS)
    if train.schedule == "plateau":
        plateau = ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=2)
        rule: dict[str, Any] = {"scheduler": plateau, "monitor": "val/selected", "frequency": train.eval_every}
    else:
        rule = {"scheduler": lr_schedule(optimizer, train, steps), "interval": "step"}
    return {"optimizer": optimizer, "lr_scheduler": rule}


def parameter_groups(model: nn.Module, train: TrainConfig) -> list[dict[str, Any]]:
    """Trained parameters in groups for AdamW: backbone or heads, matrices with and the rest without weight decay.

    With train.layer_decay below 1, the backbone has groups for each layer, as in BEiT (Bao et al. 2022): the learning
    rate of a layer is layer_decay times that of the layer after it, and that of the last is train.backbone_lr.
    """
    layers = _layer_groups(model.backbone, train) if train.layer_decay < 1 else []
    grouped = {id(parameter) for group in layers for parameter in group["params"]}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in grouped:
            groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
    for (backbone, matrix), parameters in sorted(groups.items(), key=lambda item: item[0]):
        lr = train.backbone_lr if backbone else train.peak_lr
        decay = train.weight_decay if matrix else 0.0
        layers.append({"params": parameters, "lr": lr, "initial": lr, "weight_decay": decay})
    return layers


def _layer_groups(backbone: Any, train: TrainConfig) -> list[dict[str, Any]]:
    """The trained parameters of each layer of a backbone, first layer first."""
    groups = param_groups_layer_decay(backbone.network, train.weight_decay, layer_decay=train.layer_decay)
    for group in groups:
        group["lr"] = group["initial"] = train.backbone_lr * group.pop("lr_scale")
    return groups


def lr_schedule(optimizer: torch.optim.Optimizer, train: TrainConfig, steps: int) -> LambdaLR:
    """Linear warm-up, then a cosine to 0 (Loshchilov and Hutter 2017) or a constant, over `steps` optimiser steps.

    Self-critical epochs have a schedule of their own.
    """
    late = round(steps * train.self_critical.epochs / train.epochs)
    first, peak = steps - late, train.self_critical.lr / train.peak_lr

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


def warm_up(optimizer: torch.optim.Optimizer, step: int, warm: float) -> None:
    """Sets the learning rates of a step within the first `warm` ones, before a schedule that does not count steps."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial"] * min(1.0, (step + 1) / max(1.0, warm))
