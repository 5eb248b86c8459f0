"""The merge decoder: what was said so far and the photo meet only ahead of the next word.

Tanti, Gatt and Camilleri 2018, "Where to put the image in an image caption generator". The captions so far are read by
LSTM or GRU layers, forwards and, as an option, backwards too.

Reading backwards, each prefix of a caption is another sequence, for it begins with its own last word: in training
all prefixes are read at once as so many captions, T (T + 1) / 2 words for a caption of T, and none sees a later word.

Notation: B photos, K captions a photo, T tokens a caption, N places of the grid, C channels, R captions in work,
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

AT_ONCE = 2**23  # words times units of the prefixes read at once: about 30 bytes each for the backward pass


class MergeDecoder(DecoderBase):
    """LSTM or GRU over the caption so far, merged with the photo's vector.

    Attributes:
        onward: reads captions from their first word.
        reverse: reads each prefix from its last word, or None.
    """

    def __init__(self, config: DecoderConfig, vocabulary: int, channels: int) -> None:
        """A decoder of `vocabulary` tokens for grids of `channels`."""
        super().__init__(config, vocabulary, config.embedding)
        e, h, n = config.embedding, config.hidden, config.layers
        self.photo = nn.Linear(channels, h)
        self.onward = RNNStack(config.cell, e, h, n, config.dropout)
        self.reverse = RNNStack(config.cell, e, h, n, config.dropout) if config.bidirectional else None
        self.summary = nn.Linear(2 * h if config.bidirectional else h, h)
        self.output = nn.Linear(h, e)

    def start(self, grid: Tensor) -> DecoderState:
        """The state of one caption a photo, before its first token; grid [B, N, C].

        Shared: the photo as a vector [B, H], and weights of a look everywhere alike [B, N], which is what `step` tells
        of attention. Own: the tokens so far [R, S] int64, where they are read backwards too, else [R, 0]; hidden
        [R, L, H] and cell [R, L, H], or [R, L, 0] of GRUs.
        """
        photo = self._photo(grid)
        places = photo.new_ones(grid.shape[:2]).softmax(dim=1)
        tokens = torch.empty(len(grid), 0, dtype=torch.long, device=grid.device)
        one = torch.arange(len(grid), device=grid.device)
        return DecoderState(one, [photo, places], [tokens, *self.onward.zeros(len(grid), photo)])

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState, Tensor]:
        """One token further.

        Args:
            state: of R captions.
            tokens: [R] int64, each caption's last token.

        Returns:
            logits [R, V], the state after the tokens, and [R, N] that are all 1 / N: there is no attention.
        """
        words, one = self.word_dropout(self.words(tokens)), [len(tokens)]
        so_far, hidden, cell = state.own
        read, hidden, cell = self.onward(words, one, hidden, cell)
        if self.reverse is not None:
            so_far = torch.cat([so_far, tokens.unsqueeze(1)], dim=1)
            turned = self.word_dropout(self.words(so_far.flip(1).T.flatten()))
            read = torch.cat([read, self._last(turned, one * so_far.shape[1])], dim=1)
        photo, places = (part[state.photo] for part in state.shared)
        return self.vocabulary(self._out(read, photo)), state.after(so_far, hidden, cell), places

    def ahead(self, grid: Tensor, packed: PackedCaptions) -> tuple[Tensor, Tensor]:
        """What the vocabulary layer sees [M, E] at all positions, and [M, 0]: there is no attention."""
        words, layout = self.word_dropout(self.words(packed.inputs)), packed.layout
        photo = self._photo(grid)
        read, _, _ = self.onward(words, layout.counts, *self.onward.zeros(layout.counts[0], words))
        if self.reverse is not None:
            read = torch.cat([read, self._prefixes(words, layout)], dim=1)
        return self._out(read, photo[layout.photo[layout.captions()]]), words[:, :0]

    def _photo(self, grid: Tensor) -> Tensor:
        """[B, H] of [B, N, C]."""
        return self.photo(self.seen(grid).mean(dim=1))

    def _out(self, read: Tensor, photo: Tensor) -> Tensor:
        """What the vocabulary layer sees [R, E], from the captions' summaries [R, H or 2 H] and photos [R, H]."""
        return self.dropout(self.output((self.summary(read) + photo).tanh()).tanh())

    def _prefixes(self, words: Tensor, layout: PackedLayout) -> Tensor:
        """[M, H]: each prefix of words [M, E] read backwards. Memory is for a slice of prefixes at a time."""
        slices = prefix_slices(layout, max(1, AT_ONCE // self.onward.layers.hidden_size))
        if len(slices) == 1 or not torch.is_grad_enabled():
            read = [self._turned(words, *some) for some in slices]
        else:
            read = [checkpoint(self._turned, words, *some, use_reentrant=False) for some in slices]
        return torch.cat(read).flip(0)

    def _turned(self, words: Tensor, places: Tensor, counts: list[int]) -> Tensor:
        """The last state [R, H] of R sequences whose words stand at `places` of [M, E]."""
        return self._last(words[places], counts)

    def _last(self, words: Tensor, counts: list[int]) -> Tensor:
        """The last state [R, H] of each of R sequences, the longest first, packed as words [M, E]."""
        assert self.reverse is not None
        _, hidden, _ = self.reverse(words, counts, *self.reverse.zeros(counts[0], words))
        return hidden[:, -1]


def prefix_slices(layout: PackedLayout, words: int) -> list[tuple[Tensor, list[int]]]:
    """All prefixes turned round, from the last position's to the first one's, in slices of about so many words.

    Returns:
        for each slice, the positions of its words, time by time, and how many prefixes still go on at each time.
    """
    first = torch.tensor([start for start, _, _ in layout.slices()], device=layout.rows.device)
    caption, time = layout.captions().flip(0), layout.times().flip(0)
    sizes = [n for n in (time.cumsum(0) // words).bincount().tolist() if n]
    slices = []
    for rows, last in zip(caption.split(sizes), time.split(sizes), strict=True):
        counts = last.bincount().flip(0).cumsum(0).flip(0).tolist()
        places = [first[last[:n] - back] + rows[:n] for back, n in enumerate(counts)]
        slices.append((torch.cat(places), counts))
    return slices
