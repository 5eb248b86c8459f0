"""LLaMA-3 blocks: each branch reads a norm of the stream and adds to it. Held by tests/models/decoders/test_llama.py.

Grattafiori et al. 2024, "The Llama 3 Herd of Models"; RMSNorm (Zhang and Sennrich 2019), rotary positions (Su et al.
2021), grouped-query attention (Ainslie et al. 2023), SwiGLU (Shazeer 2020). Linear layers have no bias.

Notation: R rows, each a caption (in an encoder an image), T the longest one's length, M tokens of all rows that are no
padding, D the stream's size, H heads, G heads of keys and values, S size of a head, B images, N places of the grid.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.layers.dropout import Dropout

EPSILON = 1e-5  # in RMSNorm

Rotation = tuple[Tensor, Tensor]  # cosine and sine of tokens' angles, each [M, 1, S / 2]


class BlockSizes(Protocol):
    """Sizes of a block: the stream's, and how many heads; feed_forward as a multiple of the stream's size."""

    dim: int
    heads: int
    kv_heads: int
    feed_forward: float


@dataclass
class RowLayout:
    """Where tokens that stand one after the other belong in rows.

    Attributes:
        rows: R.
        longest: T.
        places: [M] int64, each token's place in R T; None: there is no padding, M = R T.
    """

    rows: int
    longest: int
    places: Tensor | None = None

    def spread(self, packed: Tensor) -> Tensor:
        """[R, T, ...] of [M, ...], 0 at padding."""
        if self.places is not None:
            full = packed.new_zeros(self.rows * self.longest, *packed.shape[1:])
            packed = full.index_copy(0, self.places, packed)
        return packed.unflatten(0, (self.rows, self.longest))

    def pack(self, spread: Tensor) -> Tensor:
        """[M, ...] of [R, T, ...]."""
        flat = spread.flatten(0, 1)
        return flat if self.places is None else flat[self.places]


def rotary_angles(positions: Tensor, size: int, base: float) -> Rotation:
    """Cosine and sine of each position's angles: positions [M] times base ** (-2 i / S), i from 0 to S / 2 - 1."""
    powers = torch.arange(0, size, 2, device=positions.device) / size
    angles = (positions.unsqueeze(1) * base**-powers).unsqueeze(1)
    return angles.cos(), angles.sin()


def apply_rotary(heads: Tensor, rotation: Rotation) -> Tensor:
    """Values i and i + S / 2 of each head turned as a point in the plane; heads [M, ., S]."""
    a, b = heads.float().chunk(2, dim=2)
    cos, sin = rotation
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=2).to(heads.dtype)


def grouped_query_attention(query: Tensor, keys: Tensor, values: Tensor, causal: bool) -> Tensor:
    """Grouped-query attention: heads h of [R, T, H, S] read keys and values h G / H of [R, T', G, S]."""
    # On a CPU in fp32: torch's backward pass takes eight times as long there in bf16.
    kind = torch.float32 if query.device.type == "cpu" else values.dtype
    with torch.autocast(query.device.type, enabled=False):
        q, k, v = (part.to(kind).transpose(1, 2) for part in (query, keys, values))
        read = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    return read.transpose(1, 2).to(values.dtype)


class SelfAttention(nn.Module):
    """Attention of a row's tokens to each other, or with `causal` to those before them."""

    def __init__(self, config: BlockSizes, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.size = config.dim // config.heads
        self.parts = [config.heads, config.kv_heads, config.kv_heads]
        self.inputs = nn.Linear(config.dim, sum(self.parts) * self.size, bias=False)
        self.output = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: Tensor, rotation: Rotation, layout: RowLayout) -> Tensor:
        """[M, D] of [M, D]."""
        query, keys, values = (layout.spread(part) for part in self._heads(x, rotation))
        return self.output(layout.pack(grouped_query_attention(query, keys, values, self.causal)).flatten(1))

    def step(self, x: Tensor, rotation: Rotation, past: Tensor) -> tuple[Tensor, Tensor]:
        """For each row's next token [R, D]; returns past, keys and values [R, 2, T, G, S], with those of the token."""
        query, key, value = self._heads(x, rotation)
        past = torch.cat([past, torch.stack([key, value], dim=1).unsqueeze(2)], dim=2)
        keys, values = past.unbind(dim=1)
        read = grouped_query_attention(query.unsqueeze(1), keys, values, causal=False)
        return self.output(read.flatten(1)), past

    def _heads(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Query [M, H, S], key and value [M, G, S]."""
        query, key, value = self.inputs(x).unflatten(1, (-1, self.size)).split(self.parts, dim=1)
        return apply_rotary(query, rotation), apply_rotary(key, rotation), value


class CrossAttention(nn.Module):
    """Attention of captions to their image's grid, without rotation: a word has no place in an image."""

    def __init__(self, config: BlockSizes) -> None:
        super().__init__()
        self.heads, self.groups, self.size = config.heads, config.kv_heads, config.dim // config.heads
        self.query = nn.Linear(config.dim, config.dim, bias=False)
        self.memory = nn.Linear(config.dim, 2 * self.groups * self.size, bias=False)
        self.output = nn.Linear(config.dim, config.dim, bias=False)

    def keys_and_values(self, grid: Tensor) -> Tensor:
        """Keys and values [B, 2, N, G, S] of grids [B, N, D], for all captions of an image."""
        return self.memory(grid).unflatten(2, (2, self.groups, self.size)).transpose(1, 2)

    def forward(self, x: Tensor, layout: RowLayout, grid: Tensor) -> Tensor:
        """[M, D] of [M, D]; grid comes from keys_and_values, and an image's captions stand together, R / B each."""
        query = layout.spread(self.query(x)).view(len(grid), -1, self.heads, self.size)
        keys, values = grid.unbind(dim=1)
        read = grouped_query_attention(query, keys, values, causal=False)
        return self.output(layout.pack(read.reshape(layout.rows, layout.longest, -1)))

    def step(self, x: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """[R, D] of [R, D], and attention [R, N], the heads' mean; grids serve R / B captions in rotation."""
        keys, values = grid.unbind(dim=1)
        query = self.query(x).view(len(keys), -1, self.groups, self.heads // self.groups, self.size)
        scores = torch.einsum("bwghs,bngs->bwghn", query, keys) * self.size**-0.5
        weights = scores.float().softmax(dim=4)
        read = torch.einsum("bwghn,bngs->bwghs", weights.to(values.dtype), values)
        return self.output(read.reshape(len(x), -1)), weights.mean(dim=(2, 3)).flatten(0, 1)


class SwiGLU(nn.Module):
    """The block's feed-forward part: one half gates the other."""

    def __init__(self, config: BlockSizes) -> None:
        super().__init__()
        hidden = round(config.feed_forward * config.dim)
        self.inputs = nn.Linear(config.dim, 2 * hidden, bias=False)
        self.output = nn.Linear(hidden, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[M, D] of [M, D]."""
        gate, value = self.inputs(x).chunk(2, dim=1)
        return self.output(F.silu(gate) * value)


class EncoderBlock(nn.Module):
    """Places of an image's grid attend to each other, in both directions."""

    def __init__(self, config: BlockSizes, dropout: float) -> None:
        super().__init__()
        self.attention, self.attention_norm = SelfAttention(config, causal=False), _norm(config)
        self.feed, self.feed_norm = SwiGLU(config), _norm(config)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, rotation: Rotation, layout: RowLayout) -> Tensor:
        """[M, D] of [M, D]."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, layout))
        return x + self.dropout(self.feed(self.feed_norm(x)))


class DecoderBlock(nn.Module):
    """Words attend to the words before them, then to the image's grid."""

    def __init__(self, config: BlockSizes, dropout: float) -> None:
        super().__init__()
        self.attention, self.attention_norm = SelfAttention(config, causal=True), _norm(config)
        self.cross, self.cross_norm = CrossAttention(config), _norm(config)
        self.feed, self.feed_norm = SwiGLU(config), _norm(config)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, rotation: Rotation, layout: RowLayout, grid: Tensor) -> Tensor:
        """[M, D] of [M, D]."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, layout))
        x = x + self.dropout(self.cross(self.cross_norm(x), layout, grid))
        return x + self.dropout(self.feed(self.feed_norm(x)))

    def step(self, x: Tensor, rotation: Rotation, past: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The next token of each caption [R, D], its keys and values so far, and its attention [R, N]."""
        read, past = self.attention.step(self.attention_norm(x), rotation, past)
        x = x + self.dropout(read)
        read, weights = self.cross.step(self.cross_norm(x), grid)
        x = x + self.dropout(read)
        return x + self.dropout(self.feed(self.feed_norm(x))), past, weights


def _norm(config: BlockSizes) -> nn.RMSNorm:
    return nn.RMSNorm(config.dim, eps=EPSILON)
