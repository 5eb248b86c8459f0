"""A caption decoder of LLaMA-3 blocks with cross-attention over the photo's grid, and such blocks ahead of it.

The grid is a row of places, line by line, and an encoder's rotary positions count along it: neighbours in a line are
one apart, those above each other a line's length.

Notation: B photos, K captions a photo, T tokens a caption, N places of the grid, C channels, D the stream's size,
R captions in work, V tokens in the vocabulary, M positions of all captions that are no padding, L blocks,
G heads of keys and values, S size of a head.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.config.schema import DecoderConfig
from src.models.decoders.base import DecoderBase
from src.models.layers.decoder_state import DecoderState
from src.models.layers.llama_blocks import (
    EPSILON,
    DecoderBlock,
    EncoderBlock,
    RowLayout,
    Turn,
    check_llama_sizes,
    rotary_angles,
)
from src.models.layers.packed_captions import PackedCaptions


class LlamaDecoder(DecoderBase):
    """LLaMA-3 decoder, with or without an encoder over the grid."""

    def __init__(self, config: DecoderConfig, vocabulary: int, channels: int) -> None:
        """A decoder of `vocabulary` tokens for grids of `channels`.

        Raises:
            UserError: the config's sizes do not go together.
        """
        own = config.llama
        check_llama_sizes(own)
        # As LLaMA's, and not scaled up: with shared output weights a word as large as what the blocks add would mostly
        # ask for itself once more.
        super().__init__(config, vocabulary, own.dim, std=0.02)
        self.config = own
        self.grid = nn.Linear(channels, own.dim, bias=False)
        self.encoder = nn.ModuleList(EncoderBlock(own, config.dropout) for _ in range(own.encoder_layers))
        self.grid_norm = nn.RMSNorm(own.dim, eps=EPSILON)
        self.blocks = nn.ModuleList(DecoderBlock(own, config.dropout) for _ in range(own.layers))
        self.norm = nn.RMSNorm(own.dim, eps=EPSILON)

    def start(self, grid: Tensor) -> DecoderState:
        """The state of one caption a photo, before its first token; grid [B, N, C].

        Shared: the grid's keys and values for each block [B, L, 2, N, G, S]. Own: those of the T tokens so far
        [R, L, 2, T, G, S].
        """
        read = torch.stack(self._read(grid), dim=1)
        return DecoderState(torch.arange(len(grid), device=grid.device), [read], [read[:, :, :, :0]])

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState, Tensor]:
        """One token further.

        Args:
            state: of R captions.
            tokens: [R] int64, each caption's last token.

        Returns:
            logits [R, V], the state after the tokens, and where each looked in the last block [R, N], a row's sum 1.
        """
        (so_far,), (grid,) = state.own, state.in_turn()
        x, turn = self._embed(tokens), self._turn(torch.full_like(tokens, so_far.shape[3]))
        past, looks = [], []
        for block, before, memory in zip(self._blocks(), so_far.unbind(1), grid.unbind(1), strict=True):
            x, after, look = block.step(x, turn, before, memory)
            past.append(after)
            looks.append(look)
        return self.vocabulary(self.norm(x)), state.after(torch.stack(past, dim=1)), looks[-1]

    def ahead(self, grid: Tensor, packed: PackedCaptions) -> tuple[Tensor, Tensor]:
        """What the vocabulary layer sees [M, D] at all positions, and [M, 0]: where it looked is not kept."""
        times = packed.layout
        x, turn = self._embed(packed.inputs), self._turn(times.times())
        rows = RowLayout(times.photos * times.each, len(times.counts), times.places)
        for block, memory in zip(self.blocks, self._read(grid), strict=True):
            x = self._run(block, x, turn, rows, memory)
        return self.norm(x).to(self.dtype(x)), x[:, :0]

    def _read(self, grid: Tensor) -> list[Tensor]:
        """Each block's keys and values [B, 2, N, G, S] of grids [B, N, C]."""
        b, n = grid.shape[:2]
        x = self.grid(self.seen(grid)).flatten(0, 1)
        x = x.to(self.words.weight.dtype)  # the stream is in fp32, as that of words
        turn = self._turn(torch.arange(n, device=grid.device).repeat(b))
        for block in self.encoder:
            x = self._run(block, x, turn, RowLayout(b, n))
        memory = self.grid_norm(x).unflatten(0, (b, n))
        return [block.cross.read(memory) for block in self._blocks()]

    def _blocks(self) -> list[DecoderBlock]:
        return list(self.blocks)  # type: ignore[arg-type]

    def _run(self, block: nn.Module, *inputs: object) -> Tensor:
        if self.config.checkpointing and self.training:
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.word_dropout(self.words(tokens))

    def _turn(self, positions: Tensor) -> Turn:
        return rotary_angles(positions, self.config.dim // self.config.heads, self.config.rope_base)
