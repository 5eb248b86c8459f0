"""A caption decoder of LLaMA-3 blocks with cross-attention over the image's grid, and such blocks before it.

The grid is a row of places, line by line, and an encoder's rotary positions count along it: neighbours in a line are
one apart, those above each other a line's length.

Notation: B images, K captions an image, T tokens a caption, N places of the grid, C channels, D the stream's size,
R captions in work, V tokens in the vocabulary, M positions of all captions that are no padding, L blocks,
G heads of keys and values, S size of a head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.common.errors import UserError
from src.config.dataclass_validation import fill_dataclass
from src.config.schema import Above0, Count, DecoderConfig, Whole
from src.models.decoders.base import DecoderBase
from src.models.layers.decoder_state import DecoderState, StateLayout
from src.models.layers.llama_blocks import EPSILON, DecoderBlock, EncoderBlock, Rotation, RowLayout, rotary_angles
from src.models.layers.packed_captions import PackedCaptions


@dataclass
class Options:
    """LLaMA-3 blocks, which also read the dropouts, tied and label_smoothing of model.decoder.

    Args:
        dim: size of word vectors and of the stream between blocks.
        layers: number of decoder blocks, each with cross-attention over the grid.
        heads: number of attention heads; dim / heads must be an even number.
        kv_heads: number of heads of keys and values; heads / kv_heads query heads share each.
        feed_forward: number of hidden units of the feed-forward layer, as a multiple of dim.
        rope_base: base of the wavelengths of rotary positions.
        encoder_layers: number of blocks over the grid before the decoder; 0: none.
        checkpointing: compute activations again in the backward pass, which is slower and needs less memory (in
            mobilenet_llama3 a fifth: 26 MB of 125 for 8 photos).
    """

    dim: Count = 512
    layers: Count = 2
    heads: Count = 8
    kv_heads: Count = 2
    feed_forward: Above0 = 3.5
    rope_base: Above0 = 500000.0
    encoder_layers: Whole = 0
    checkpointing: bool = False


class LlamaDecoder(DecoderBase):
    """LLaMA-3 decoder, with or without an encoder over the grid."""

    options_type = Options
    state_layout = StateLayout(1, (3,))
    compiled_parts = ("encoder", "blocks")

    def __init__(self, config: DecoderConfig, vocabulary: int, channels: int) -> None:
        """A decoder of `vocabulary` tokens for grids of `channels`."""
        options = fill_dataclass(Options, config.options)
        # The deviation is LLaMA's: with tied output weights, a word as large as the blocks' output would mostly
        # predict itself again.
        super().__init__(config, vocabulary, options.dim, std=0.02)
        self.options = options
        self.grid = nn.Linear(channels, options.dim, bias=False)
        self.encoder = nn.ModuleList(EncoderBlock(options, config.dropout) for _ in range(options.encoder_layers))
        self.grid_norm = nn.RMSNorm(options.dim, eps=EPSILON)
        self.blocks = nn.ModuleList(DecoderBlock(options, config.dropout) for _ in range(options.layers))
        self.norm = nn.RMSNorm(options.dim, eps=EPSILON)

    @classmethod
    def check(cls, config: DecoderConfig) -> None:
        """Raises UserError where the sizes do not go together."""
        super().check(config)
        options, key = fill_dataclass(Options, config.options), "model.decoder.llama"
        dim, heads, groups = options.dim, options.heads, options.kv_heads
        if dim % heads:
            raise UserError(f"{key}: dim {dim} is no multiple of heads {heads}; change one of them")
        if heads % groups:
            raise UserError(f"{key}: heads {heads} is no multiple of kv_heads {groups}; change one of them")
        if dim // heads % 2:
            raise UserError(f"{key}: a head has {dim // heads} values (dim / heads); rotation needs an even number")

    @classmethod
    def has_attention(cls, config: DecoderConfig) -> bool:
        """Always: `step` gives the last block's cross-attention."""
        return True

    def start(self, grid: Tensor) -> DecoderState:
        """The state of one caption an image, before its first token; grid [B, N, C].

        Shared: the grid's keys and values for each block [B, L, 2, N, G, S]. Parts: those of the T tokens so far
        [R, L, 2, T, G, S].
        """
        memory = torch.stack(self._keys_and_values(grid), dim=1)
        return DecoderState(torch.arange(len(grid), device=grid.device), [memory], [memory[:, :, :, :0]])

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState, Tensor]:
        """As CaptionDecoder's; attention is the last block's, the mean over its heads."""
        (past,), (grid,) = state.parts, state.grouped_shared()
        x, rotation = self._embed(tokens), self._rotation(torch.full_like(tokens, past.shape[3]))
        caches, attention = [], []
        for block, before, memory in zip(self._decoder_blocks(), past.unbind(1), grid.unbind(1), strict=True):
            x, after, weights = block.step(x, rotation, before, memory)
            caches.append(after)
            attention.append(weights)
        return self.vocabulary(self.norm(x)), state.advance(torch.stack(caches, dim=1)), attention[-1]

    def hidden_states(self, grid: Tensor, packed: PackedCaptions) -> tuple[Tensor, Tensor]:
        """The vocabulary layer's inputs [M, D] at all positions, and [M, 0]: training keeps no attention."""
        layout = packed.layout
        x, rotation = self._embed(packed.inputs), self._rotation(layout.time_index())
        rows = RowLayout(layout.images * layout.captions, len(layout.counts), layout.places)
        for block, memory in zip(self.blocks, self._keys_and_values(grid), strict=True):
            x = self._run(block, x, rotation, rows, memory)
        return self.norm(x).to(self.dtype(x)), x[:, :0]

    def _keys_and_values(self, grid: Tensor) -> list[Tensor]:
        """Each block's keys and values [B, 2, N, G, S] of grids [B, N, C]."""
        b, n = grid.shape[:2]
        x = self.grid(self.prepare_grid(grid)).flatten(0, 1)
        x = x.to(self.words.weight.dtype)  # the stream is in fp32, as that of words
        rotation = self._rotation(torch.arange(n, device=grid.device).repeat(b))
        for block in self.encoder:
            x = self._run(block, x, rotation, RowLayout(b, n))
        memory = self.grid_norm(x).unflatten(0, (b, n))
        return [block.cross.keys_and_values(memory) for block in self._decoder_blocks()]

    def _decoder_blocks(self) -> list[DecoderBlock]:
        return list(self.blocks)  # type: ignore[arg-type]

    def _run(self, block: nn.Module, *inputs: object) -> Tensor:
        if self.options.checkpointing and self.training:
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.word_dropout(self.words(tokens))

    def _rotation(self, positions: Tensor) -> Rotation:
        return rotary_angles(positions, self.options.dim // self.options.heads, self.options.rope_base)


DECODER = LlamaDecoder
