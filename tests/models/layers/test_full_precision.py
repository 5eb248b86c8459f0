"""Trained convolutions with groups compute in fp32 under autocast on a CPU, and nothing else changes."""

from copy import deepcopy

import torch
from torch import nn

from src.models.layers.full_precision import FullPrecision, train_in_full_precision


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=8))


def test_only_trained_convolutions_with_groups_change() -> None:
    changed = network()
    changed[2].requires_grad_(False)
    train_in_full_precision(changed)
    assert [isinstance(module, FullPrecision) for module in changed] == [False, True, False]


def test_results_and_gradients_are_those_of_fp32_under_autocast() -> None:
    plain, changed = network()[1:], network()[1:]
    train_in_full_precision(changed)
    image, outputs = torch.rand(2, 8, 9, 9), []
    for module in (plain, changed):
        with torch.autocast("cpu", torch.bfloat16, enabled=module is changed):
            outputs.append(module(image))
        outputs[-1].square().sum().backward()
    assert outputs[1].dtype == torch.float32
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(changed[0].weight.grad, plain[0].weight.grad)


def test_without_gradients_autocast_decides() -> None:
    changed = network()
    train_in_full_precision(changed)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert changed(torch.rand(1, 4, 9, 9)).dtype == torch.bfloat16


def test_a_copy_computes_with_its_own_weights() -> None:
    changed = network()
    train_in_full_precision(changed)
    copied = deepcopy(changed)
    with torch.no_grad():
        changed[1].weight.zero_()
    assert copied[1](torch.rand(1, 8, 9, 9)).abs().sum() > 0
