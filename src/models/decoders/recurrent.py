"""The classic caption decoder: LSTM or GRU layers, the first of which may attend to the image's grid.

Vinyals et al. 2015, "Show and Tell" (the image as one vector, first input of an LSTM); Xu et al. 2015, "Show, Attend
and Tell" (attention over its grid, a start from the grid's mean, doubly stochastic attention).

Notation: B images, K captions an image, T tokens a caption, N places of the grid, C channels, R captions in work,
V tokens in the vocabulary, L layers, H units of the state, A units of the attention, E size of word vectors,
M positions of all captions that are no padding.
"""

from math import prod

import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.config.schema import DecoderConfig
from src.models.decoders.base import DecoderBase
from src.models.layers.attention_rnn import AttentionRNN
from src.models.layers.decoder_state import DecoderState, StateLayout
from src.models.layers.packed_captions import PackedCaptions, PackedLayout
from src.models.layers.rnn_cells import make_cell
from src.models.layers.rnn_stack import RNNStack


class RecurrentDecoder(DecoderBase):
    """LSTM or GRU decoder, with or without attention.

    Attributes:
        attention: the first layer, where there is attention.
        upper: all other layers, or None.
    """

    settings = ("doubly_stochastic",)
    state_layout = StateLayout(2)

    def __init__(self, config: DecoderConfig, vocabulary: int, channels: int) -> None:
        """A decoder of `vocabulary` tokens for grids of `channels`."""
        super().__init__(config, vocabulary, config.embedding)
        e, h, attends = config.embedding, config.hidden, config.attention != "none"
        self.sizes = (make_cell(config.cell).parts, config.layers, h)
        self.image_first, self.doubly_stochastic = config.image == "input", config.doubly_stochastic
        self.first = nn.Linear(channels, e if self.image_first else prod(self.sizes))
        self.attention = AttentionRNN(config, channels) if attends else None
        rest = config.layers - attends
        self.upper = RNNStack(config.cell, h if attends else e, h, rest, config.dropout) if rest else None
        self.output = nn.Linear(e + (2 if attends else 1) * h, e)

    @classmethod
    def check(cls, config: DecoderConfig) -> None:
        """Raises UserError where a config's settings do not go together."""
        super().check(config)
        if config.doubly_stochastic and not cls.has_attention(config):
            raise UserError("model.decoder.doubly_stochastic: attention is none; set it 0, or choose an attention")

    @classmethod
    def has_attention(cls, config: DecoderConfig) -> bool:
        """Whether it attends to the grid."""
        return config.attention != "none"

    def penalty(self, attention: Tensor, layout: PackedLayout) -> Tensor | None:
        """The weighted doubly stochastic penalty."""
        return self.doubly_stochastic * attention_unevenness(attention, layout) if self.doubly_stochastic else None

    def start(self, grid: Tensor) -> DecoderState:
        """The state of one caption an image, before its first token; grid [B, N, C].

        Shared: keys [B, N, A] and values [B, N, H] of the attention; both [B, N, 0] without attention. Parts: hidden
        [R, L, H], and cell [R, L, H], or [R, L, 0] of GRUs.
        """
        grid = self.prepare_grid(grid)
        keys, values = self.attention.keys_and_values(grid) if self.attention else (grid[:, :, :0], grid[:, :, :0])
        image, first = torch.arange(grid.shape[0], device=grid.device), self.first(grid.mean(dim=1))
        if not self.image_first:
            return DecoderState(image, [keys, values], self._split(first.tanh()))
        zeros = first.new_zeros(grid.shape[0], prod(self.sizes))
        return self._advance(DecoderState(image, [keys, values], self._split(zeros)), first)[0]

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState, Tensor]:
        """As CaptionDecoder's; without attention all weights are 1 / N."""
        words = self.word_dropout(self.words(tokens))
        state, context, weights = self._advance(state, words)
        return self.vocabulary(self._output(state.parts[0][:, -1], context, words)), state, weights

    def hidden_states(self, grid: Tensor, packed: PackedCaptions) -> tuple[Tensor, Tensor]:
        """The vocabulary layer's inputs [M, E] and attention [M, N], or [M, 0], at all positions."""
        words = self.word_dropout(self.words(packed.inputs))
        state, layout = self.start(grid), packed.layout
        hidden, cell = (part[layout.image] for part in state.parts)
        top, context, weights = words, words[:, :0], words[:, :0]
        if self.attention is not None:
            first = (hidden[:, 0], cell[:, 0])
            top, context, weights = self.attention.unroll(layout, words, *first, *state.shared)
            hidden, cell = hidden[:, 1:], cell[:, 1:]
        if self.upper is not None:
            top, _, _ = self.upper(top if self.attention is None else self.dropout(top), layout.counts, hidden, cell)
        return self._output(top, context, words), weights

    def _split(self, values: Tensor) -> list[Tensor]:
        """[R, parts L H] to hidden [R, L, H] and cell [R, L, H], or [R, L, 0] of GRUs."""
        parts = values.view(-1, *self.sizes)
        return [parts[:, 0], parts[:, 1] if self.sizes[0] == 2 else parts[:, 0, :, :0]]

    def _advance(self, state: DecoderState, words: Tensor) -> tuple[DecoderState, Tensor, Tensor]:
        """The state after inputs [R, E], their context vectors [R, H], or [R, 0], and attention [R, N]."""
        (hidden, cell), top = state.parts, words
        if self.attention is None:
            context, weights = words[:, :0], words.new_ones(words.shape[0], state.shared[0].shape[1]).softmax(dim=1)
            first = (hidden[:, :0], cell[:, :0])
        else:
            shared = state.grouped_shared()
            top, first_cell, context, weights = self.attention.step(words, hidden[:, 0], cell[:, 0], *shared)
            first, hidden, cell = (top.unsqueeze(1), first_cell.unsqueeze(1)), hidden[:, 1:], cell[:, 1:]
        if self.upper is not None:
            top = top if self.attention is None else self.dropout(top)
            hidden, cell = self.upper.step(top, hidden, cell)
        joined = (torch.cat(both, dim=1) for both in zip(first, (hidden, cell), strict=True))
        return state.advance(*joined), context, weights

    def _output(self, hidden: Tensor, context: Tensor, words: Tensor) -> Tensor:
        """The vocabulary layer's inputs [R, E], from the hidden state, the context vector and the last word."""
        values = torch.cat([hidden, *(part.to(hidden.dtype) for part in (context, words))], dim=1)
        return self.dropout(self.output(values).tanh())


def attention_unevenness(weights: Tensor, layout: PackedLayout) -> Tensor:
    """The doubly stochastic penalty: attention should sum to 1 at each place over a caption.

    (1 - sum over time of alpha)^2, summed over places and captions (Xu et al. 2015, eq. 14), and divided by the number
    of words, as the cross-entropy is.

    Args:
        weights: [M, N], alpha.
        layout: of the M positions.
    """
    sums = weights.new_zeros(len(layout.rows), weights.shape[1], dtype=torch.float32)
    sums = sums.index_add(0, layout.caption_index(), weights.float())
    return (1 - sums).square().sum() / max(1, len(weights))


DECODER = RecurrentDecoder
