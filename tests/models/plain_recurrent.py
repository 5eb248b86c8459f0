"""The recurrent decoder once more, as one would first write it: fp32, padded, one caption a row, one linear at a time.

Independent of src.models.decoders.recurrent but for its weights: the reference of its tests, and of `make bench`.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.config.schema import DecoderConfig
from src.models.decoders.recurrent import RecurrentDecoder

ALL = slice(None)
Part = tuple[nn.Parameter, slice, slice]


class Plain(nn.Module):
    """The same model."""

    def __init__(self, config: DecoderConfig, vocabulary: int, channels: int) -> None:
        super().__init__()
        self.config = config
        a, e, h = config.attention_size, config.embedding, config.hidden
        read = 0 if config.attention == "none" else h
        self.words = nn.Embedding(vocabulary, e)
        self.key, self.value = nn.Linear(channels, a), nn.Linear(channels, h)
        states = config.layers * (2 if config.cell == "lstm" else 1)
        self.first = nn.ModuleList(nn.Linear(channels, h) for _ in range(states))
        self.photo = nn.Linear(channels, e)
        self.query, self.gate = nn.Linear(h, a), nn.Linear(h, h)
        self.score = nn.Linear(a, 1, bias=False)
        cell = nn.LSTMCell if config.cell == "lstm" else nn.GRUCell
        self.cells = nn.ModuleList(cell(h if layer else e + read, h) for layer in range(config.layers))
        self.output = nn.Linear(h + read + e, e)
        self.vocabulary = nn.Linear(e, vocabulary)
        self.vocabulary.weight = self.words.weight
        self.dropout = nn.Dropout(config.dropout)

    @torch.no_grad()
    def take(self, other: RecurrentDecoder) -> None:
        """Copies the weights of a decoder with tied words."""
        if self.config.attention != "none":
            for name, parameter in self.cells[0].named_parameters():
                parameter.fill_(0.0 if name == "bias_hh" else torch.nan)
        for (mine, rows, columns), (theirs, their_rows, their_columns) in self.pairs(other):
            at = (rows, columns)[: mine.ndim]
            mine[at] = theirs[(their_rows, their_columns)[: theirs.ndim]].view_as(mine[at])

    def gradients(self, other: RecurrentDecoder) -> Iterator[tuple[Tensor, Tensor]]:
        """This model's and the other's, part by part."""
        for (mine, rows, columns), (theirs, their_rows, their_columns) in self.pairs(other):
            assert mine.grad is not None
            assert theirs.grad is not None
            own = mine.grad[(rows, columns)[: mine.ndim]]
            yield own, theirs.grad[(their_rows, their_columns)[: theirs.ndim]].view_as(own)

    def pairs(self, other: RecurrentDecoder) -> Iterator[tuple[Part, Part]]:
        """Which part of which parameter here is which there: parameter, rows and columns of each."""
        yield (self.words.weight, ALL, ALL), (other.words.weight, ALL, ALL)
        yield (self.vocabulary.bias, ALL, ALL), (other.vocabulary.bias, ALL, ALL)
        yield from self._linear(self.output, other.output)
        a, e, h = self.config.attention_size, self.config.embedding, self.config.hidden
        if self.config.image == "input":
            yield from self._linear(self.photo, other.first)
        else:
            for place, first in enumerate(self.first):
                yield from self._linear(first, other.first, slice(place * h, (place + 1) * h))
        upper, layer = list(self.cells), other.attention
        if layer is not None:
            yield from self._linear(self.key, layer.memory, slice(0, a))
            yield from self._linear(self.value, layer.memory, slice(a, a + h))
            yield from self._linear(self.query, layer.query, slice(0, a))
            if self.config.attention == "gated":
                yield from self._linear(self.gate, layer.query, slice(a, a + h))
            yield (self.score.weight, ALL, ALL), (layer.score, ALL, ALL)
            cell = upper.pop(0)
            yield (cell.weight_ih, ALL, slice(0, e)), (layer.input.weight, ALL, ALL)
            yield (cell.weight_ih, ALL, slice(e, None)), (layer.recurrent.weight, ALL, slice(h, None))
            yield (cell.weight_hh, ALL, ALL), (layer.recurrent.weight, ALL, slice(0, h))
            yield (cell.bias_ih, ALL, ALL), (layer.input.bias, ALL, ALL)
        for place, cell in enumerate(upper):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                yield (getattr(cell, name), ALL, ALL), (getattr(other.upper.layers, f"{name}_l{place}"), ALL, ALL)  # type: ignore[union-attr]

    def _linear(self, mine: nn.Linear, theirs: nn.Linear, rows: slice = ALL) -> Iterator[tuple[Part, Part]]:
        yield (mine.weight, ALL, ALL), (theirs.weight, rows, ALL)
        yield (mine.bias, ALL, ALL), (theirs.bias, rows, ALL)

    def forward(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """[B, N, C] and [B, K, T] to [B, K, T - 1, V], padding included."""
        return self.both(grid, tokens)[0]

    def both(self, grid: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """forward's logits, and where it looked [B, K, T - 1, N]."""
        b, k, t = tokens.shape
        grid = grid * self.dropout(grid.new_ones(b, 1, grid.shape[2]))
        keys = self.key(grid).repeat_interleave(k, dim=0)
        values = self.value(grid).repeat_interleave(k, dim=0)
        mean = grid.mean(dim=1).repeat_interleave(k, dim=0)
        layers = self.config.layers
        parts = [torch.tanh(first(mean)) for first in self.first]
        hidden, cell = parts[:layers], parts[layers:]
        if self.config.image == "input":
            hidden, cell = [torch.zeros_like(h) for h in hidden], [torch.zeros_like(c) for c in cell]
            self._step(self.photo(mean), hidden, cell, keys, values)
        logits, looks = [], []
        for step in range(t - 1):
            word = self.dropout(self.words(tokens[:, :, step].reshape(-1)))
            read, weights = self._step(word, hidden, cell, keys, values)
            out = torch.tanh(self.output(torch.cat([hidden[-1], *read, word], dim=1)))
            logits.append(self.vocabulary(self.dropout(out)))
            looks.append(weights)
        return torch.stack(logits, dim=1).view(b, k, t - 1, -1), torch.stack(looks, dim=1).view(b, k, t - 1, -1)

    def _step(
        self, word: Tensor, hidden: list[Tensor], cell: list[Tensor], keys: Tensor, values: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """One input further: hidden and cell are replaced, what was read and where is returned."""
        energy = self.score(torch.tanh(keys + self.query(hidden[0]).unsqueeze(1))).squeeze(2)
        weights = torch.softmax(energy, dim=1)
        read = (weights.unsqueeze(2) * values).sum(dim=1)
        if self.config.attention == "gated":
            read = torch.sigmoid(self.gate(hidden[0])) * read
        reads = [] if self.config.attention == "none" else [read]
        below = torch.cat([word, *reads], dim=1)
        for layer, one in enumerate(self.cells):
            below = self.dropout(below) if layer else below
            if cell:
                hidden[layer], cell[layer] = one(below, (hidden[layer], cell[layer]))
            else:
                hidden[layer] = one(below, hidden[layer])
            below = hidden[layer]
        return reads, weights

    def loss(self, grid: Tensor, tokens: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy per word, padding ignored; with the doubly stochastic penalty, over the number of words too."""
        logits, looks = self.both(grid, tokens)
        target = tokens[:, :, 1:].reshape(-1)
        loss = F.cross_entropy(logits.view(len(target), -1), target, ignore_index=0, label_smoothing=smoothing)
        if not self.config.doubly_stochastic:
            return loss
        kept = (tokens[:, :, 1:] != 0).unsqueeze(3)
        penalty = ((1 - (looks * kept).sum(dim=2)) ** 2).sum(dim=2)[kept.any(dim=2).squeeze(2)].sum()
        return loss + self.config.doubly_stochastic * penalty / kept.sum()
