"""What caption decoders with words of their own share: words in, words out, teacher forcing over packed captions.

Notation: B photos, K captions a photo, T tokens a caption, N places of the grid, C channels, V tokens in the
vocabulary, E size of word vectors, M positions of all captions that are no padding.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from src.config.schema import DecoderConfig
from src.models.layers.dropout import Dropout
from src.models.layers.packed_captions import PAD, PackedCaptions, pack_captions, unpack_captions
from src.models.losses import linear_cross_entropy


class DecoderBase(nn.Module):
    """A decoder that says, at each position, what its vocabulary layer sees there."""

    def __init__(self, config: DecoderConfig, vocabulary: int, size: int, std: float = 0.05) -> None:
        """Word vectors of `size`, with deviation `std`, output weights and dropout."""
        super().__init__()
        self.words = nn.Embedding(vocabulary, size, padding_idx=PAD)
        self.vocabulary = nn.Linear(size, vocabulary)
        self.dropout = Dropout(config.dropout)
        self.word_dropout = Dropout(config.word_dropout)
        self.grid_dropout = Dropout(config.grid_dropout)
        # As output weights, vectors of torch's default deviation 1 give logits so wild that the loss hardly falls.
        nn.init.normal_(self.words.weight, std=std)
        nn.init.zeros_(self.vocabulary.bias)
        if config.tied:
            self.vocabulary.weight = self.words.weight

    @abstractmethod
    def ahead(self, grid: Tensor, packed: PackedCaptions) -> tuple[Tensor, Tensor]:
        """What the vocabulary layer sees [M, E] and where attention looked [M, N], at one position or more."""

    def forward(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """Teacher forcing: from the tokens up to t, the logits of token t + 1.

        Args:
            grid: [B, N, C].
            tokens: [B, K, T] int64, padded with 0.

        Returns:
            [B, K, T - 1, V]; 0 at padding.
        """
        packed = pack_captions(tokens)
        ahead, _ = self.ahead_if_any(grid, packed)
        b, k, t = tokens.shape
        return unpack_captions(self.vocabulary(ahead), packed.layout, (b, k, t))

    def loss(
        self,
        grid: Tensor,
        tokens: Tensor,
        smoothing: float = 0.0,
        scale: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Cross-entropy per word of forward's logits, without ever making those at padding.

        With `scale` [B, K], each word counts as much as its caption's. Logits are divided by `temperature`.
        """
        packed = pack_captions(tokens)
        return self.cross_entropy(self.ahead_if_any(grid, packed)[0], packed, smoothing, scale, temperature)

    def cross_entropy(
        self,
        ahead: Tensor,
        packed: PackedCaptions,
        smoothing: float,
        scale: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Per word, from what the vocabulary layer sees [M, E]; `scale` and `temperature` as in loss."""
        counts = None if scale is None else scale.flatten()[packed.caption]
        head = self.vocabulary
        return linear_cross_entropy(ahead, head.weight, head.bias, packed.targets, smoothing, counts, temperature)

    def ahead_if_any(self, grid: Tensor, packed: PackedCaptions) -> tuple[Tensor, Tensor]:
        """As ahead; for captions that are all padding nothing, but of the graph: backward() works."""
        if packed.layout.counts:
            return self.ahead(grid, packed)
        return self.words.weight[:0], grid[0, :, :1].mT[:0]

    def seen(self, grid: Tensor) -> Tensor:
        """The grid [B, N, C] in the dtype to compute in, with dropout.

        Whole channels of a photo are dropped: its places are too alike for one to hide what the next one shows.
        """
        grid = grid.to(self.dtype(grid))
        return grid * self.grid_dropout(grid.new_ones(grid.shape[0], 1, grid.shape[2]))

    def dtype(self, values: Tensor) -> torch.dtype:
        """What to compute in where `values` are: autocast's, or the weights'."""
        kind = values.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.words.weight.dtype
