"""Training on cached grids against a plain fp32 loop of the same model, from the same weights on the same batches."""

import time
from dataclasses import replace

import torch
from torch import Tensor, nn

from src.config.schema import DecoderConfig
from src.inference.feature_extractor import reuse_memory
from src.models.decoders.recurrent import RecurrentDecoder
from tests.models.plain_recurrent import Plain

Row = tuple[str, str, str]
VOCABULARY, PHOTOS, CAPTIONS, LONGEST = 2540, 64, 5, 26


def rows(steps: int = 8) -> list[Row]:
    """The plain loop first, as a newcomer's process would run it, then ours; and how far the losses are apart."""
    # Dropout draws differ, and the curves are to be compared.
    config = replace(DecoderConfig(), dropout=0.0, word_dropout=0.0, grid_dropout=0.0)
    torch.manual_seed(0)
    ours = RecurrentDecoder(config, VOCABULARY, 1280)
    plain = Plain(config, VOCABULARY, 1280)
    plain.take(ours)
    batches = [batch(seed) for seed in range(steps + 1)]
    slow, curve = run(plain, batches, torch.float32)
    reuse_memory()
    fast, other = run(ours, batches, torch.bfloat16)
    apart = max(abs(a - b) for a, b in zip(curve, other, strict=True))
    captions = PHOTOS * CAPTIONS
    return [
        ("training step on cached grids, plain fp32 loop", f"{captions / slow:.0f} captions/s", ""),
        ("training step on cached grids, ours in bf16", f"{captions / fast:.0f} captions/s", f"{slow / fast:.1f}x"),
        (f"  losses of {steps} steps, {curve[0]:.3f} to {curve[-1]:.3f}", f"apart by at most {apart:.3f}", ""),
    ]


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """A grid [B, N, C] in bf16 and tokens [B, K, T] with the caption lengths of Flickr8k (mean 11.8, deviation 3.8)."""
    drawn = torch.Generator().manual_seed(seed)
    grid = torch.randn(PHOTOS, 49, 1280, generator=drawn).relu().bfloat16()
    words = (torch.randn(PHOTOS, CAPTIONS, generator=drawn) * 3.8 + 11.8).round().clamp(4, LONGEST - 2).long()
    tokens = torch.randint(4, VOCABULARY, (PHOTOS, CAPTIONS, LONGEST), generator=drawn)
    place = torch.arange(LONGEST)
    tokens[place > words[..., None]] = 0
    return grid, tokens.scatter(2, words[..., None], 2)


def run(
    model: RecurrentDecoder | Plain, batches: list[tuple[Tensor, Tensor]], precision: torch.dtype
) -> tuple[float, list]:
    """Median seconds of a step, the first one left out, and all losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    seconds, losses = [], []
    for grid, tokens in batches:
        began = time.perf_counter()
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            loss = model.loss(grid if precision != torch.float32 else grid.float(), tokens)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        seconds.append(time.perf_counter() - began)
        losses.append(loss.item())
    return sorted(seconds[1:])[len(seconds) // 2], losses
