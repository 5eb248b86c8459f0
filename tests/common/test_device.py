"""Precision by name, and mixed precision where it is not 32."""

import pytest
import torch

from src.common.device import autocast, best_device, has_fast_bf16, resolve_precision

CPU = torch.device("cpu")


def test_the_gpu_is_used_where_there_is_one() -> None:
    assert best_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("precision", ["32", "bf16", "fp16"])
def test_a_named_precision_stays(precision: str) -> None:
    assert resolve_precision(precision, CPU) == precision


def test_auto_is_bf16_where_that_is_fast() -> None:
    assert resolve_precision("auto", CPU) == ("bf16" if has_fast_bf16(CPU) else "32")


@pytest.mark.parametrize(("precision", "dtype"), [("32", torch.float32), ("bf16", torch.bfloat16)])
def test_matrix_products_have_the_precision(precision: str, dtype: torch.dtype) -> None:
    with autocast(CPU, precision):
        assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype is dtype
