"""The merge decoder: the words so far and the image are read apart, and merged before the next word.

Tanti, Gatt and Camilleri 2018, "Where to put the image in an image caption generator". The captions so far are read by
LSTM or GRU layers, forwards and, as an option, backwards too.

Reading backwards, each prefix of a caption is another sequence, for it begins with its own last word: in training
all prefixes are read at once as separate captions, T (T + 1) / 2 words for a caption of T, and none sees a later word.

Notation: B images, K captions an image, T tokens a caption, N places of the grid, C channels, R captions in work,
S tokens of each so far, V tokens in the vocabulary, L layers, H units of the state, E size of word vectors,
M positions of all captions that are no padding.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.config.schema import DecoderConfig
from src.models.decoders.base import DecoderBase
from src.models.layers.decoder_state import DecoderState
from src.models.layers.packed_captions import PackedCaptions, PackedLayout
from src.models.layers.rnn_stack import RNNStack

SLICE_VALUES = 2**23  # words times units of the prefixes read at once: about 30 bytes each for the backward pass


class MergeDecoder(DecoderBase):
    """LSTM or GRU over the caption so far, merged with the image's vector.

    Attributes:
        forwards: reads captions from their first word.
        backwards: reads each prefix from its last word, or None.
    """

    settings = ("bidirectional",)

    def __init__(self, config: DecoderConfig, vocabulary: int, channels: int) -> None:
        """A decoder of `vocabulary` tokens for grids of `channels`."""
        super().__init__(config, vocabulary, config.embedding)
        e, h, n = config.embedding, config.hidden, config.layers
        self.image = nn.Linear(channels, h)
        self.forwards = RNNStack(config.cell, e, h, n, config.dropout)
        self.backwards = RNNStack(config.cell, e, h, n, config.dropout) if config.bidirectional else None
        self.summary = nn.Linear(2 * h if config.bidirectional else h, h)
        self.output = nn.Linear(h, e)

    def start(self, grid: Tensor) -> DecoderState:
        """The state of one caption an image, before its first token; grid [B, N, C].

        Shared: the image as a vector [B, H], and the even weights [B, N] that `step` gives as attention. Parts: the
        tokens so far [R, S] int64, where they are read backwards too, else [R, 0]; hidden [R, L, H] and cell
        [R, L, H], or [R, L, 0] of GRUs.
        """
        image = self._image_vector(grid)
        weights = image.new_ones(grid.shape[:2]).softmax(dim=1)
        tokens = torch.empty(len(grid), 0, dtype=torch.long, device=grid.device)
        rows = torch.arange(len(grid), device=grid.device)
        return DecoderState(rows, [image, weights], [tokens, *self.forwards.zero_state(len(grid), image)])

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState, Tensor]:
        """As CaptionDecoder's; all attention weights are 1 / N."""
        words, counts = self.word_dropout(self.words(tokens)), [len(tokens)]
        prefix, hidden, cell = state.parts
        summary, hidden, cell = self.forwards(words, counts, hidden, cell)
        if self.backwards is not None:
            prefix = torch.cat([prefix, tokens.unsqueeze(1)], dim=1)
            reversed_words = self.word_dropout(self.words(prefix.flip(1).T.flatten()))
            summary = torch.cat([summary, self._last_state(reversed_words, counts * prefix.shape[1])], dim=1)
        image, weights = (part[state.image] for part in state.shared)
        return self.vocabulary(self._merge(summary, image)), state.advance(prefix, hidden, cell), weights

    def hidden_states(self, grid: Tensor, packed: PackedCaptions) -> tuple[Tensor, Tensor]:
        """The vocabulary layer's inputs [M, E] at all positions, and [M, 0]: there is no attention."""
        words, layout = self.word_dropout(self.words(packed.inputs)), packed.layout
        image = self._image_vector(grid)
        summary, _, _ = self.forwards(words, layout.counts, *self.forwards.zero_state(layout.counts[0], words))
        if self.backwards is not None:
            summary = torch.cat([summary, self._prefix_states(words, layout)], dim=1)
        return self._merge(summary, image[layout.image[layout.caption_index()]]), words[:, :0]

    def _image_vector(self, grid: Tensor) -> Tensor:
        """[B, H] of [B, N, C]."""
        return self.image(self.prepare_grid(grid).mean(dim=1))

    def _merge(self, summary: Tensor, image: Tensor) -> Tensor:
        """The vocabulary layer's inputs [R, E], from the captions' summaries [R, H or 2 H] and images [R, H]."""
        return self.dropout(self.output((self.summary(summary) + image).tanh()).tanh())

    def _prefix_states(self, words: Tensor, layout: PackedLayout) -> Tensor:
        """[M, H]: each prefix of words [M, E] read backwards. Memory is for a slice of prefixes at a time."""
        slices = prefix_slices(layout, max(1, SLICE_VALUES // self.forwards.layers.hidden_size))
        if len(slices) == 1 or not torch.is_grad_enabled():
            states = [self._slice_states(words, *part) for part in slices]
        else:
            states = [checkpoint(self._slice_states, words, *part, use_reentrant=False) for part in slices]
        return torch.cat(states).flip(0)

    def _slice_states(self, words: Tensor, places: Tensor, counts: list[int]) -> Tensor:
        """The last state [R, H] of R sequences whose words stand at `places` of [M, E]."""
        return self._last_state(words[places], counts)

    def _last_state(self, words: Tensor, counts: list[int]) -> Tensor:
        """The last state [R, H] of each of R sequences, the longest first, packed as words [M, E]."""
        assert self.backwards is not None
        _, hidden, _ = self.backwards(words, counts, *self.backwards.zero_state(counts[0], words))
        return hidden[:, -1]


def prefix_slices(layout: PackedLayout, words: int) -> list[tuple[Tensor, list[int]]]:
    """All prefixes reversed, from the last position's to the first one's, in slices of about `words` words.

    Returns:
        for each slice, the positions of its words, time by time, and how many prefixes still go on at each time.
    """
    first = torch.tensor([start for start, _, _ in layout.time_slices()], device=layout.rows.device)
    caption, time = layout.caption_index().flip(0), layout.time_index().flip(0)
    sizes = [n for n in (time.cumsum(0) // words).bincount().tolist() if n]
    slices = []
    for rows, last in zip(caption.split(sizes), time.split(sizes), strict=True):
        counts = last.bincount().flip(0).cumsum(0).flip(0).tolist()
        places = [first[last[:n] - back] + rows[:n] for back, n in enumerate(counts)]
        slices.append((torch.cat(places), counts))
    return slices


DECODER = MergeDecoder
