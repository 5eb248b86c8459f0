"""The classic caption decoder: LSTM or GRU layers, the first of which may attend to the photo's grid.

Vinyals et al. 2015, "Show and Tell" (the photo as one vector, first input of an LSTM); Xu et al. 2015, "Show, Attend
and Tell" (attention over its grid, a start from the grid's mean, doubly stochastic attention).

Notation: B photos, K captions a photo, T tokens a caption, N places of the grid, C channels, R captions in work,
V tokens in the vocabulary, L layers, H units of the state, A units of the attention, E size of word vectors,
M positions of all captions that are no padding.
"""

from math import prod

import torch
from torch import Tensor, nn

from src.config.schema import DecoderConfig
from src.models.decoders.base import DecoderBase
from src.models.layers.attention_rnn import AttentionRNN
from src.models.layers.decoder_state import DecoderState
from src.models.layers.packed_captions import PackedCaptions, PackedLayout, pack_captions
from src.models.layers.rnn_cells import make_cell
from src.models.layers.rnn_stack import RNNStack


class RecurrentDecoder(DecoderBase):
    """LSTM or GRU decoder, with or without attention.

    Attributes:
        attending: the first layer, where there is attention.
        upper: all other layers, or None.
    """

    def __init__(self, config: DecoderConfig, vocabulary: int, channels: int) -> None:
        """A decoder of `vocabulary` tokens for grids of `channels`."""
        super().__init__(config, vocabulary, config.embedding)
        e, h, attends = config.embedding, config.hidden, config.attention != "none"
        self.sizes = (make_cell(config.cell).parts, config.layers, h)
        self.enters, self.doubly_stochastic = config.image == "input", config.doubly_stochastic
        self.first = nn.Linear(channels, e if self.enters else prod(self.sizes))
        self.attending = AttentionRNN(config, channels) if attends else None
        rest = config.layers - attends
        self.upper = RNNStack(config.cell, h if attends else e, h, rest, config.dropout) if rest else None
        self.output = nn.Linear(e + (2 if attends else 1) * h, e)

    def loss(
        self,
        grid: Tensor,
        tokens: Tensor,
        smoothing: float = 0.0,
        scale: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """As any captioner's; without `scale`, the weighted doubly stochastic penalty is added."""
        if not self.doubly_stochastic or scale is not None:
            return super().loss(grid, tokens, smoothing, scale, temperature)
        packed = pack_captions(tokens)
        ahead, weights = self.ahead_if_any(grid, packed)
        loss = self.cross_entropy(ahead, packed, smoothing, temperature=temperature)
        return loss + self.doubly_stochastic * attention_unevenness(weights, packed.layout)

    def start(self, grid: Tensor) -> DecoderState:
        """The state of one caption a photo, before its first token; grid [B, N, C].

        Shared: keys [B, N, A], which attention compares with, and values [B, N, H], which it reads; both [B, N, 0]
        without attention. Own: hidden [R, L, H], and cell [R, L, H], or [R, L, 0] of GRUs.
        """
        grid = self.seen(grid)
        keys, values = self.attending.grids(grid) if self.attending else (grid[:, :, :0], grid[:, :, :0])
        photo, first = torch.arange(grid.shape[0], device=grid.device), self.first(grid.mean(dim=1))
        if not self.enters:
            return DecoderState(photo, [keys, values], self._split(first.tanh()))
        nothing = first.new_zeros(grid.shape[0], prod(self.sizes))
        return self._further(DecoderState(photo, [keys, values], self._split(nothing)), first)[0]

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState, Tensor]:
        """One token further.

        Args:
            state: of R captions.
            tokens: [R] int64, each caption's last token.

        Returns:
            logits [R, V], the state after the tokens, and where each looked [R, N], a row's sum 1: everywhere alike
            without attention.
        """
        words = self.word_dropout(self.words(tokens))
        state, read, weights = self._further(state, words)
        return self.vocabulary(self._out(state.own[0][:, -1], read, words)), state, weights

    def ahead(self, grid: Tensor, packed: PackedCaptions) -> tuple[Tensor, Tensor]:
        """What the vocabulary layer sees [M, E] and where attention looked [M, N], or [M, 0], at all positions."""
        words = self.word_dropout(self.words(packed.inputs))
        state, layout = self.start(grid), packed.layout
        hidden, cell = (part[layout.photo] for part in state.own)
        top, read, weights = words, words[:, :0], words[:, :0]
        if self.attending is not None:
            first = (hidden[:, 0], cell[:, 0])
            top, read, weights = self.attending.unroll(layout, words, *first, *state.shared)
            hidden, cell = hidden[:, 1:], cell[:, 1:]
        if self.upper is not None:
            top, _, _ = self.upper(top if self.attending is None else self.dropout(top), layout.counts, hidden, cell)
        return self._out(top, read, words), weights

    def _split(self, values: Tensor) -> list[Tensor]:
        """[R, parts L H] to hidden [R, L, H] and cell [R, L, H], or [R, L, 0] of GRUs."""
        parts = values.view(-1, *self.sizes)
        return [parts[:, 0], parts[:, 1] if self.sizes[0] == 2 else parts[:, 0, :, :0]]

    def _further(self, state: DecoderState, words: Tensor) -> tuple[DecoderState, Tensor, Tensor]:
        """The state after inputs [R, E], what was read for them [R, H], or [R, 0], and where [R, N]."""
        (hidden, cell), top = state.own, words
        if self.attending is None:
            read, weights = words[:, :0], words.new_ones(words.shape[0], state.shared[0].shape[1]).softmax(dim=1)
            first = (hidden[:, :0], cell[:, :0])
        else:
            top, below, read, weights = self.attending.step(words, hidden[:, 0], cell[:, 0], *state.in_turn())
            first, hidden, cell = (top.unsqueeze(1), below.unsqueeze(1)), hidden[:, 1:], cell[:, 1:]
        if self.upper is not None:
            top = top if self.attending is None else self.dropout(top)
            hidden, cell = self.upper.step(top, hidden, cell)
        joined = (torch.cat(both, dim=1) for both in zip(first, (hidden, cell), strict=True))
        return state.after(*joined), read, weights

    def _out(self, hidden: Tensor, read: Tensor, words: Tensor) -> Tensor:
        """What the vocabulary layer sees [R, E], from the state, what was read and the last word."""
        values = torch.cat([hidden, *(part.to(hidden.dtype) for part in (read, words))], dim=1)
        return self.dropout(self.output(values).tanh())


def attention_unevenness(weights: Tensor, layout: PackedLayout) -> Tensor:
    """How far attention is from having looked at all places alike by the end of a caption.

    (1 - sum over time of alpha)^2, summed over places and captions (Xu et al. 2015, eq. 14), and divided by the number
    of words, as the cross-entropy is.

    Args:
        weights: [M, N], alpha.
        layout: of the M positions.
    """
    looked = weights.new_zeros(len(layout.rows), weights.shape[1], dtype=torch.float32)
    looked = looked.index_add(0, layout.captions(), weights.float())
    return (1 - looked).square().sum() / max(1, len(weights))
