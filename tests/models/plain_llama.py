"""The LLaMA decoder once more, as one would first write it: one caption, one head and one position at a time."""

import math

import torch
from torch import Tensor, nn

from src.models.decoders.llama import LlamaDecoder
from src.models.layers.llama_blocks import DecoderBlock, EncoderBlock


def logits(decoder: LlamaDecoder, grid: Tensor, words: Tensor) -> Tensor:
    """[t, V] of one photo's grid [N, C] and one caption's words [t]."""
    config = decoder.options
    places = grid @ decoder.grid.weight.T
    for block in decoder.encoder:
        places = encoded(block, config.heads, config.kv_heads, config.rope_base, places)
    places = norm(decoder.grid_norm, places)
    x = decoder.words.weight[words]
    for block in decoder.blocks:
        x = decoded(block, config.heads, config.kv_heads, config.rope_base, x, places)
    return norm(decoder.norm, x) @ decoder.vocabulary.weight.T + decoder.vocabulary.bias


def encoded(block: EncoderBlock, heads: int, groups: int, base: float, x: Tensor) -> Tensor:
    x = x + looked(block.attention, heads, groups, base, norm(block.attention_norm, x), len(x))
    return x + fed(block.feed, norm(block.feed_norm, x))


def decoded(block: DecoderBlock, heads: int, groups: int, base: float, x: Tensor, places: Tensor) -> Tensor:
    x = x + looked(block.attention, heads, groups, base, norm(block.attention_norm, x), 0)
    size = x.shape[1] // heads
    query = norm(block.cross_norm, x) @ block.cross.query.weight.T
    keys, values = (places @ block.cross.memory.weight.T).chunk(2, dim=1)
    x = x + read(query, keys, values, heads, groups, size, len(places)) @ block.cross.output.weight.T
    return x + fed(block.feed, norm(block.feed_norm, x))


def looked(attention: nn.Module, heads: int, groups: int, base: float, x: Tensor, ahead: int) -> Tensor:
    """Self-attention; a position sees those up to itself and `ahead` further ones."""
    size = x.shape[1] // heads
    parts = [heads * size, groups * size, groups * size]
    query, keys, values = (x @ attention.inputs.weight.T).split(parts, dim=1)
    query, keys = turned(query, size, base), turned(keys, size, base)
    return read(query, keys, values, heads, groups, size, ahead) @ attention.output.weight.T


def read(query: Tensor, keys: Tensor, values: Tensor, heads: int, groups: int, size: int, ahead: int) -> Tensor:
    rows = []
    for t in range(len(query)):
        row = []
        for head in range(heads):
            group = head // (heads // groups)
            own, shared = slice(head * size, (head + 1) * size), slice(group * size, (group + 1) * size)
            seen = keys[: t + 1 + ahead, shared]
            weights = torch.softmax(seen @ query[t, own] / math.sqrt(size), dim=0)
            row.append(weights @ values[: t + 1 + ahead, shared])
        rows.append(torch.cat(row))
    return torch.stack(rows)


def turned(x: Tensor, size: int, base: float) -> Tensor:
    """Value i of a head and value i + S / 2 are a complex number, turned by the position times base ** (-2 i / S)."""
    rows = x.unflatten(1, (-1, 2, size // 2)).clone()
    for position in range(len(x)):
        for i in range(size // 2):
            number = torch.complex(rows[position, :, 0, i], rows[position, :, 1, i])
            number = number * complex(torch.polar(torch.tensor(1.0), torch.tensor(position * base ** (-2 * i / size))))
            rows[position, :, 0, i], rows[position, :, 1, i] = number.real, number.imag
    return rows.flatten(1)


def norm(module: nn.RMSNorm, x: Tensor) -> Tensor:
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-5).sqrt() * module.weight


def fed(feed: nn.Module, x: Tensor) -> Tensor:
    gate, value = (x @ feed.inputs.weight.T).chunk(2, dim=1)
    return (gate * gate.sigmoid() * value) @ feed.output.weight.T
