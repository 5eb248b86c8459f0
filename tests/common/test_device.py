"""Mixed precision of a device."""

import pytest
import torch

from src.common.device import autocast, best_device, has_fast_bf16, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("precision", "kind"), [("32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.half)])
def test_layers_compute_in_the_precision(precision: str, kind: torch.dtype) -> None:
    layer, rows = torch.nn.Linear(4, 2), torch.ones(3, 4)
    with autocast(CPU, precision):
        assert layer(rows).dtype == kind
    assert layer(rows).dtype == torch.float32


def test_auto_is_bf16_where_the_device_computes_in_it() -> None:
    assert resolve_precision("fp16", CPU) == "fp16"
    assert resolve_precision("auto", CPU) == ("bf16" if has_fast_bf16(CPU) else "32")


def test_a_processor_with_amx_or_avx512_has_fast_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, fast in {"sse2 avx2": False, "sse2 avx512_bf16": True, "amx_bf16 sse2": True}.items():
        monkeypatch.setattr("pathlib.Path.read_text", lambda path, flags=flags: f"flags: {flags}")
        monkeypatch.setattr("pathlib.Path.is_file", lambda path: True)
        assert has_fast_bf16(CPU) == fast


def test_the_gpu_is_used_where_there_is_one() -> None:
    assert best_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
