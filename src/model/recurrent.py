"""The classic caption decoder: an LSTM with additive attention over the photo's grid.

Bahdanau et al. 2015 (attention); Xu et al. 2015, "Show, Attend and Tell" (over a photo, with a start from the grid's
mean and a gate on what attention reads).

Notation: B photos, K captions a photo, T tokens a caption, N places of the grid, C channels, R captions in work,
V tokens in the vocabulary, H units of the state, A units of the attention, E size of word vectors,
M positions of all captions that are no padding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.config import DecoderConfig
from src.model.dropout import Dropout
from src.model.losses import linear_ce
from src.model.sharing import in_turn, needed
from src.model.unroll import Layout, Unroll

PAD = 0


@dataclass
class State:
    """Where captions in work stand. Captions of one photo share its keys and values.

    Attributes:
        keys: [B, N, A], what attention compares with.
        values: [B, N, H], what it reads.
        photo: [R] int64, each caption's photo.
        hidden: [R, H].
        cell: [R, H].
    """

    keys: Tensor
    values: Tensor
    photo: Tensor
    hidden: Tensor
    cell: Tensor

    def select(self, rows: Tensor) -> "State":
        """The captions rows [R'] int64 of this state: to repeat, reorder or drop them."""
        photo, (keys, values) = needed(self.photo[rows], [self.keys, self.values])
        return State(keys, values, photo, self.hidden[rows], self.cell[rows])

    def grids(self) -> tuple[Tensor, Tensor]:
        """Keys [P, N, A] and values [P, N, H], each for R / P captions in turn."""
        keys, values = in_turn(self.photo, [self.keys, self.values])
        return keys, values


@dataclass
class Packed:
    """Captions without their padding: the longest first, position by position.

    Attributes:
        layout: where they stand.
        inputs: [M] int64, tokens read.
        targets: [M] int64, tokens to predict.
        caption: [M] int64, which of the B K captions each is of.
    """

    layout: Layout
    inputs: Tensor
    targets: Tensor
    caption: Tensor


def pack(tokens: Tensor) -> Packed:
    """Packs [B, K, T] tokens; captions that are all padding vanish."""
    rows = tokens.flatten(0, 1)
    steps = ((rows != PAD).sum(dim=1) - 1).clamp(min=0)
    steps, order = steps.sort(descending=True, stable=True)
    time = torch.arange(rows.shape[1] - 1, device=rows.device)
    alive = time.unsqueeze(1) < steps.unsqueeze(0)
    counts = [n for n in alive.sum(dim=1).tolist() if n]
    at = alive.nonzero()
    caption, position = order[at[:, 1]], at[:, 0]
    places = caption * len(counts) + position
    layout = Layout(len(tokens), order[: max(counts, default=0)], counts, places, tokens.shape[1])
    return Packed(layout, rows[caption, position], rows[caption, position + 1], caption)


class Recurrent(nn.Module):
    """LSTM decoder with Bahdanau attention."""

    def __init__(self, config: DecoderConfig, vocabulary: int, channels: int) -> None:
        """A decoder of `vocabulary` tokens for grids of `channels`."""
        super().__init__()
        a, e, h = config.attention, config.embedding, config.hidden
        self.sizes = (a, h)
        self.words = nn.Embedding(vocabulary, e, padding_idx=PAD)
        self.memory = nn.Linear(channels, a + h)
        self.first = nn.Linear(channels, 2 * h)
        self.query = nn.Linear(h, a + h)
        self.score = nn.Parameter(torch.empty(a))
        self.input = nn.Linear(e, 4 * h)
        self.recurrent = nn.Linear(2 * h, 4 * h, bias=False)
        self.output = nn.Linear(2 * h + e, e)
        self.vocabulary = nn.Linear(e, vocabulary)
        self.dropout = Dropout(config.dropout)
        self.word_dropout = Dropout(config.word_dropout)
        self.grid_dropout = Dropout(config.grid_dropout)
        self._initialise(config.tied)

    def _initialise(self, tied: bool) -> None:
        nn.init.uniform_(self.score, -(self.sizes[0] ** -0.5), self.sizes[0] ** -0.5)
        # As output weights, vectors of torch's default deviation 1 give logits so wild that the loss hardly falls.
        nn.init.normal_(self.words.weight, std=0.05)
        nn.init.zeros_(self.vocabulary.bias)
        if tied:
            self.vocabulary.weight = self.words.weight
        with torch.no_grad():  # a forget gate that starts open (Jozefowicz et al. 2015)
            self.input.bias[self.sizes[1] : 2 * self.sizes[1]] += 1

    def forward(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """Teacher forcing: from the tokens up to t, the logits of token t + 1.

        Args:
            grid: [B, N, C].
            tokens: [B, K, T] int64, padded with 0.

        Returns:
            [B, K, T - 1, V]; 0 at padding.
        """
        packed = pack(tokens)
        logits = self.vocabulary(self._ahead(grid, packed))
        b, k, t = tokens.shape
        full = logits.new_zeros(b * k, t - 1, logits.shape[1])
        if packed.layout.counts:
            time = packed.layout.places % len(packed.layout.counts)
            full[packed.layout.places // len(packed.layout.counts), time] = logits
        return full.view(b, k, t - 1, -1)

    def loss(self, grid: Tensor, tokens: Tensor, smoothing: float = 0.0, scale: Tensor | None = None) -> Tensor:
        """Cross-entropy per word of forward's logits, without ever making those at padding.

        With `scale` [B, K], each word counts as much as its caption's.
        """
        packed = pack(tokens)
        ahead, head = self._ahead(grid, packed), self.vocabulary
        counts = None if scale is None else scale.flatten()[packed.caption]
        return linear_ce(ahead, head.weight, head.bias, packed.targets, smoothing, counts)

    def start(self, grid: Tensor) -> State:
        """The state of one caption a photo, before its first token; grid [B, N, C]."""
        grid = grid.to(self._dtype(grid))
        # Whole channels of a photo are dropped: its places are too alike for one to hide what the next one shows.
        grid = grid * self.grid_dropout(grid.new_ones(len(grid), 1, grid.shape[2]))
        keys, values = (part.contiguous() for part in self.memory(grid).split(self.sizes, dim=2))
        hidden, cell = self.first(grid.mean(dim=1)).tanh().chunk(2, dim=1)
        return State(keys, values, torch.arange(len(grid), device=grid.device), hidden, cell)

    def step(self, state: State, tokens: Tensor) -> tuple[Tensor, State, Tensor]:
        """One token further.

        Args:
            state: of R captions.
            tokens: [R] int64, each caption's last token.

        Returns:
            logits [R, V], the state after the tokens, and where each looked [R, N], a row's sum 1.
        """
        words = self.word_dropout(self.words(tokens))
        query, open_ = self.query(state.hidden).split(self.sizes, dim=1)
        weights, read = self._attend(query, *state.grids())
        read = open_.sigmoid() * read
        gates = self.input(words) + self.recurrent(torch.cat([state.hidden, read], dim=1))
        i, f, g, o = gates.chunk(4, dim=1)
        cell = f.sigmoid() * state.cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        logits = self.vocabulary(self._out(hidden, read, words))
        return logits, State(state.keys, state.values, state.photo, hidden, cell), weights

    def _ahead(self, grid: Tensor, packed: Packed) -> Tensor:
        """What the vocabulary layer sees [M, E], at all positions."""
        if not packed.layout.counts:  # nothing, but of the graph: backward() works
            return self.output.bias.unsqueeze(0)[:0]
        words = self.word_dropout(self.words(packed.inputs))
        state = self.start(grid)
        kind, photo = state.keys.dtype, packed.layout.photo
        inputs = (
            *(state.keys, state.values, state.hidden[photo], state.cell[photo], self.input(words)),
            *(self.query.weight, self.query.bias, self.score, self.recurrent.weight),
        )
        hidden, read = Unroll.apply(packed.layout, *(value.to(kind) for value in inputs))
        return self._out(hidden, read, words)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Where each of R captions looks [R, N], and what it reads there [R, H]; grids [P, N, ...], R / P share one."""
        query = query.view(len(keys), -1, 1, query.shape[1])
        weights = ((keys.unsqueeze(1) + query).tanh_() @ self.score.to(keys.dtype)).softmax(dim=2)
        return weights.flatten(0, 1), (weights.to(values.dtype) @ values).flatten(0, 1)

    def _out(self, hidden: Tensor, read: Tensor, words: Tensor) -> Tensor:
        """What the vocabulary layer sees [R, E], from the state, what was read and the last word."""
        return self.dropout(self.output(torch.cat([hidden, read, words.to(hidden.dtype)], dim=1)).tanh())

    def _dtype(self, grid: Tensor) -> torch.dtype:
        kind = grid.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.score.dtype
