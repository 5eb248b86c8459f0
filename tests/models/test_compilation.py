"""Compiled blocks against plain ones, and what is said where no compiler works."""

import os
import subprocess
import sys

import pytest
import torch

from src.common.errors import UserError
from src.config.schema import Config, DecoderConfig, ModelConfig
from src.models.compilation import compile_blocks
from src.models.decoders.llama import LlamaDecoder
from src.training.config_checks import check_config
from tests.tiny import tiny_config

V, C = 23, 10


def make() -> LlamaDecoder:
    torch.manual_seed(0)
    options = {"dim": 16, "layers": 1, "heads": 4, "kv_heads": 2, "feed_forward": 1.5, "encoder_layers": 1}
    config = DecoderConfig(kind="llama", dropout=0.0, word_dropout=0.0, grid_dropout=0.0, options=options)
    return LlamaDecoder(config, V, C)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_is_plain() -> None:
    plain, compiled = make(), make()
    compile_blocks(compiled, torch.device("cpu"))
    for b, k, t in [(2, 3, 8), (3, 2, 7)]:
        tokens = torch.randint(1, V, (b, k, t), generator=torch.Generator().manual_seed(t))
        tokens[0, 0, 4:] = 0
        grid = torch.randn(b, 6, C, generator=torch.Generator().manual_seed(t))
        losses = [model.loss(grid, tokens) for model in (plain, compiled)]
        torch.testing.assert_close(*losses)
        for loss in losses:
            loss.backward()
    for (name, a), b in zip(plain.named_parameters(), compiled.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b[1].grad, atol=1e-5, rtol=1e-4, msg=name)
    assert plain.state_dict().keys() == compiled.state_dict().keys()


@pytest.mark.slow
def test_no_compiler_is_told_in_one_line() -> None:
    """In a process of its own, since torch looks for a compiler once."""
    code = """
import torch
from src.common.errors import run_command
from src.models.compilation import try_compiler
run_command(lambda: try_compiler(torch.device("cpu")))
"""
    broken = {**os.environ, "CXX": "/bin/false"}
    done = subprocess.run([sys.executable, "-c", code], env=broken, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: train.compile: no compiler works (")
    assert done.stderr.splitlines()[-1].endswith("install g++, or set it false")


def checked(decoder: DecoderConfig, compiled: bool) -> None:
    config: Config = tiny_config()
    config.model = ModelConfig(decoder=decoder)
    config.data.cache, config.train.compile = False, compiled
    check_config(config)


def test_what_cannot_be_is_told_before_photos_are_read() -> None:
    checked(DecoderConfig(kind="llama"), compiled=True)
    with pytest.raises(UserError, match="train.compile"):
        checked(DecoderConfig(), compiled=True)
    with pytest.raises(UserError, match="no multiple of heads"):
        checked(DecoderConfig(kind="llama", options={"dim": 100}), compiled=False)
