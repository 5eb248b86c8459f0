"""The recurrent decoder once more, as one would first write it: fp32, padded, one caption a row, one linear at a time.

Independent of src.model.recurrent but for its weights: the reference of its tests, and of `make bench`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.config import DecoderConfig
from src.model.recurrent import Recurrent


class Plain(nn.Module):
    """The same model."""

    def __init__(self, config: DecoderConfig, vocabulary: int, channels: int) -> None:
        super().__init__()
        a, e, h = config.attention, config.embedding, config.hidden
        self.words = nn.Embedding(vocabulary, e)
        self.key, self.value = nn.Linear(channels, a), nn.Linear(channels, h)
        self.first_hidden, self.first_cell = nn.Linear(channels, h), nn.Linear(channels, h)
        self.query, self.gate = nn.Linear(h, a), nn.Linear(h, h)
        self.score = nn.Linear(a, 1, bias=False)
        self.cell = nn.LSTMCell(e + h, h)
        self.output = nn.Linear(2 * h + e, e)
        self.vocabulary = nn.Linear(e, vocabulary)
        self.vocabulary.weight = self.words.weight
        self.dropout = nn.Dropout(config.dropout)

    @torch.no_grad()
    def take(self, other: Recurrent) -> None:
        """Copies the weights of a decoder with tied words."""
        a, h = other.sizes
        e = other.words.weight.shape[1]
        self.words.weight.copy_(other.words.weight)
        self.vocabulary.bias.copy_(other.vocabulary.bias)
        for into, source, rows in [
            (self.key, other.memory, slice(0, a)),
            (self.value, other.memory, slice(a, a + h)),
            (self.first_hidden, other.first, slice(0, h)),
            (self.first_cell, other.first, slice(h, 2 * h)),
            (self.query, other.query, slice(0, a)),
            (self.gate, other.query, slice(a, a + h)),
            (self.output, other.output, slice(None)),
        ]:
            into.weight.copy_(source.weight[rows])
            into.bias.copy_(source.bias[rows])
        self.score.weight.copy_(other.score.unsqueeze(0))
        self.cell.weight_ih[:, :e] = other.input.weight
        self.cell.weight_ih[:, e:] = other.recurrent.weight[:, h:]
        self.cell.weight_hh.copy_(other.recurrent.weight[:, :h])
        self.cell.bias_ih.copy_(other.input.bias)
        self.cell.bias_hh.zero_()

    def forward(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """[B, N, C] and [B, K, T] to [B, K, T - 1, V], padding included."""
        b, k, t = tokens.shape
        grid = grid * self.dropout(grid.new_ones(b, 1, grid.shape[2]))
        keys = self.key(grid).repeat_interleave(k, dim=0)
        values = self.value(grid).repeat_interleave(k, dim=0)
        mean = grid.mean(dim=1).repeat_interleave(k, dim=0)
        h, c = torch.tanh(self.first_hidden(mean)), torch.tanh(self.first_cell(mean))
        logits = []
        for step in range(t - 1):
            word = self.dropout(self.words(tokens[:, :, step].reshape(-1)))
            energy = self.score(torch.tanh(keys + self.query(h).unsqueeze(1))).squeeze(2)
            weights = torch.softmax(energy, dim=1)
            read = torch.sigmoid(self.gate(h)) * (weights.unsqueeze(2) * values).sum(dim=1)
            h, c = self.cell(torch.cat([word, read], dim=1), (h, c))
            out = torch.tanh(self.output(torch.cat([h, read, word], dim=1)))
            logits.append(self.vocabulary(self.dropout(out)))
        return torch.stack(logits, dim=1).view(b, k, t - 1, -1)

    def loss(self, grid: Tensor, tokens: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy per word; padding is ignored."""
        logits = self(grid, tokens)
        target = tokens[:, :, 1:].reshape(-1)
        return F.cross_entropy(logits.view(len(target), -1), target, ignore_index=0, label_smoothing=smoothing)
