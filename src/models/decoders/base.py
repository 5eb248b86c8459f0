"""Caption decoders. Each file of this folder is one, chosen by its name in model.decoder.kind.
Held by tests/models/contract.py.

A file defines a subclass of CaptionDecoder, or of DecoderBase where words are trained here, and names it DECODER. The
class also states facts for other rooms: its options, their check, attention, export, compilation.

Notation: B images, K captions an image, T tokens a caption, N places of the grid, C channels, V tokens in the
vocabulary, E size of word vectors, M positions of all captions that are no padding, R captions in work.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.config.plugin_keys import NoOptions, decoder_class
from src.config.schema import BackboneConfig, Config, DecoderConfig
from src.data.tokenizer import Tokenizer
from src.models.layers.decoder_state import DecoderState, StateLayout
from src.models.layers.dropout import Dropout
from src.models.layers.packed_captions import PAD, PackedCaptions, PackedLayout, pack_captions, unpack_captions
from src.models.losses._cross_entropy import linear_cross_entropy


class CaptionDecoder(nn.Module):
    """A decoder of any kind.

    Attributes:
        options_type: the dataclass of its settings under model.decoder.options.
        settings: which of DecoderConfig.bidirectional and .doubly_stochastic it takes.
        brings_tokenizer: whether it comes with words, and may write captions without training: see `tokenizer`.
        uses_backbone: whether its constructor also takes the backbone's config and the number of styles.
        state_layout: the parts of its state, for ONNX; None: it cannot be exported.
        compiled_parts: names of its lists of blocks that torch.compile makes faster.
    """

    options_type: ClassVar[type[Any]] = NoOptions
    settings: ClassVar[tuple[str, ...]] = ()
    brings_tokenizer: ClassVar[bool] = False
    uses_backbone: ClassVar[bool] = False
    state_layout: ClassVar[StateLayout | None] = None
    compiled_parts: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check(cls, config: DecoderConfig) -> None:
        """Raises UserError where a config's settings do not go together."""
        for key in ("bidirectional", "doubly_stochastic"):
            if getattr(config, key) and key not in cls.settings:
                off = str(getattr(DecoderConfig(), key)).lower()
                raise UserError(f"model.decoder.{key}: kind {config.kind} does not have it; set it {off}")

    @classmethod
    def has_attention(cls, config: DecoderConfig) -> bool:
        """Whether `step` gives real attention; without it all weights are 1 / N."""
        return False

    @classmethod
    def tokenizer(cls, config: Config) -> Tokenizer | None:
        """The tokenizer that it comes with; None: one is trained on the captions."""
        return None

    @abstractmethod
    def start(self, grid: Tensor) -> DecoderState:
        """The state of one caption an image, before its first token; grid [B, N, C]."""

    @abstractmethod
    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState, Tensor]:
        """The step after one token.

        Args:
            state: of R captions.
            tokens: [R] int64, each caption's last token.

        Returns:
            logits [R, V], the state after the tokens, and attention [R, N], a row's sum 1.
        """

    @abstractmethod
    def forward(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """Teacher forcing: from the tokens up to t, the logits of token t + 1.

        Args:
            grid: [B, N, C].
            tokens: [B, K, T] int64, padded with 0.

        Returns:
            [B, K, T - 1, V]; values at padding have no meaning.
        """

    @abstractmethod
    def loss(
        self, grid: Tensor, tokens: Tensor, smoothing: float = 0, scale: Tensor | None = None, temperature: float = 1
    ) -> Tensor:
        """Cross-entropy per word of forward's logits, without ever making those at padding.

        With `scale` [B, K], each word counts as much as its caption's. Logits are divided by `temperature`.
        """


class DecoderBase(CaptionDecoder):
    """A decoder whose words are trained here. A subclass gives `start`, `step` and `hidden_states`."""

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
    def hidden_states(self, grid: Tensor, packed: PackedCaptions) -> tuple[Tensor, Tensor]:
        """The vocabulary layer's inputs [M, E] and attention [M, N], or [M, 0], at one position or more."""

    def forward(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """Teacher forcing, as CaptionDecoder's; logits are 0 at padding."""
        packed = pack_captions(tokens)
        hidden, _ = self.hidden_states_or_empty(grid, packed)
        b, k, t = tokens.shape
        return unpack_captions(self.vocabulary(hidden), packed.layout, (b, k, t))

    def loss(
        self, grid: Tensor, tokens: Tensor, smoothing: float = 0, scale: Tensor | None = None, temperature: float = 1
    ) -> Tensor:
        """Cross-entropy, as CaptionDecoder's, and without `scale` the penalty."""
        packed, head = pack_captions(tokens), self.vocabulary
        hidden, attention = self.hidden_states_or_empty(grid, packed)
        weights = None if scale is None else scale.flatten()[packed.caption]
        loss = linear_cross_entropy(hidden, head.weight, head.bias, packed.targets, smoothing, weights, temperature)
        penalty = self.penalty(attention, packed.layout) if scale is None else None
        return loss if penalty is None else loss + penalty

    def penalty(self, attention: Tensor, layout: PackedLayout) -> Tensor | None:
        """A loss of the attention [M, N] of training; None: there is none."""
        return None

    def hidden_states_or_empty(self, grid: Tensor, packed: PackedCaptions) -> tuple[Tensor, Tensor]:
        """As hidden_states; [0, E] and [0, N] of the graph where all captions are padding, so that backward() works."""
        if packed.layout.counts:
            return self.hidden_states(grid, packed)
        return self.words.weight[:0], grid[0, :, :1].mT[:0]

    def prepare_grid(self, grid: Tensor) -> Tensor:
        """The grid [B, N, C] in the dtype to compute in, with dropout.

        Whole channels of an image are dropped: its places are too alike for one to hide what the next one shows.
        """
        grid = grid.to(self.dtype(grid))
        return grid * self.grid_dropout(grid.new_ones(grid.shape[0], 1, grid.shape[2]))

    def dtype(self, values: Tensor) -> torch.dtype:
        """The dtype to compute in on the device of `values`: autocast's, or the weights'."""
        kind = values.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.words.weight.dtype


def make_decoder(
    config: DecoderConfig, vocabulary: int, channels: int, backbone: BackboneConfig | None = None, styles: int = 1
) -> CaptionDecoder:
    """An untrained decoder.

    Args:
        config: its settings.
        vocabulary: V.
        channels: C of the grids.
        backbone: the config of the image network, with its name and sizes; a decoder may come with its weights.
        styles: how many of the tokens are styles.

    Raises:
        UserError: as check_decoder_config, or the decoder does not fit the backbone.
    """
    check_decoder_config(config)
    decoder = decoder_class(config.kind)
    extra = (backbone, styles) if decoder.uses_backbone else ()
    return decoder(config, vocabulary, channels, *extra)


def check_decoder_config(config: DecoderConfig) -> None:
    """Raises UserError where the kind does not exist, or a config's settings do not go together."""
    decoder_class(config.kind).check(config)
