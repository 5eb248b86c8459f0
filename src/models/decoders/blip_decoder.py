"""BLIP's text decoder (Li et al. 2022) as a caption decoder: transformers' layers, a grid shared by a photo's captions.

Notation: B photos, K captions a photo, T tokens a caption, N places of the grid, C channels, R captions in work,
P photos that they are of, V tokens in the vocabulary, E size of word vectors, H heads, D size of a head,
S tokens so far, Q queries, M places that they may look at.
"""

from typing import Any

import torch
from torch import Tensor, nn

from src.common.errors import UserError, one_line
from src.config.schema import BackboneConfig, DecoderConfig
from src.data.tokenizer import END, PAD, SPECIAL
from src.models.backbones.blip import is_blip, load_blip, read_blip_vocabulary
from src.models.layers.decoder_state import DecoderState
from src.models.layers.lora import add_lora, require_peft
from src.models.losses import linear_cross_entropy

Pairs = list[tuple[Tensor, Tensor]]
BY_WORD = ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias")
BY_WORD_TIED = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")


class BlipDecoder(nn.Module):
    """BERT with cross-attention to the grid, over BLIP's own words in our order.

    The weights are transformers', and so are all layers but attention: there a photo's captions are more queries to
    the one set of keys and values, where transformers keeps a set a caption.
    """

    def __init__(
        self, config: DecoderConfig, vocabulary: int, channels: int, backbone: BackboneConfig | None, styles: int
    ) -> None:
        """A decoder of `vocabulary` tokens for the grids of BLIP's own tower, with its weights unless those are none.

        Raises:
            UserError: the backbone is no BLIP, or the vocabulary is not its own.
        """
        super().__init__()
        if backbone is None or not is_blip(backbone.name):
            raise UserError("model.decoder.kind: blip sits on its own tower; set model.backbone.name to a BLIP's")
        self.text = _random(backbone, vocabulary, channels)
        self.styles = nn.Embedding(styles, self.text.config.hidden_size)
        if backbone.weights != "none":
            self._read(backbone.name, vocabulary, styles)
        if config.lora.rank:
            add_lora(self.text, config.lora, "model.decoder.lora")

    def forward(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """Teacher forcing: from the tokens up to t, the logits of token t + 1.

        Args:
            grid: [B, N, C].
            tokens: [B, K, T] int64, padded with 0.

        Returns:
            [B, K, T - 1, V]; what stands at padding means nothing.
        """
        logits = self.text.cls(self._hidden(grid, tokens))
        return logits.view(*tokens.shape[:2], tokens.shape[2] - 1, -1)

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
        targets = tokens[:, :, 1:].flatten()
        kept = (targets != PAD).nonzero().squeeze(1)
        head = self.text.cls.predictions
        ahead = head.transform(self._hidden(grid, tokens).flatten(0, 1)[kept])
        counts = None if scale is None else scale.flatten()[kept // (tokens.shape[2] - 1)]
        last = head.decoder
        return linear_cross_entropy(ahead, last.weight, last.bias, targets[kept], smoothing, counts, temperature)

    def start(self, grid: Tensor) -> DecoderState:
        """The state of one caption a photo, before its first token; grid [B, N, C].

        Shared: keys and values of the grid [B, H, N, D], layer by layer. Own: those of the tokens so far
        [R, H, S, D]; none ahead of the first.
        """
        grid = grid.to(self.styles.weight.dtype)
        attentions = [layer.crossattention.self for layer in self.text.bert.encoder.layer]
        grids = [self._heads(part(grid)) for one in attentions for part in (one.key, one.value)]
        return DecoderState(torch.arange(len(grid), device=grid.device), grids, [])

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState, Tensor]:
        """One token further.

        Args:
            state: of R captions.
            tokens: [R] int64, each caption's last token.

        Returns:
            logits [R, V], the state after the tokens, and where each looked [R, N] in the last layer, a row's sum 1.
        """
        hidden, past, looks = self._layers(tokens.unsqueeze(1), _pairs(state.in_turn()), _pairs(state.own))
        looks = looks.mean(dim=1).flatten(0, 1)
        return self.text.cls(hidden).squeeze(1), state.after(*(part for pair in past for part in pair)), looks

    def _hidden(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """[B K, T - 1, E] for all tokens but the last."""
        return self._layers(tokens[:, :, :-1].flatten(0, 1), _pairs(self.start(grid).shared), [])[0]

    def _layers(self, tokens: Tensor, grids: Pairs, past: Pairs) -> tuple[Tensor, Pairs, Tensor]:
        """All layers over tokens [R, T] that follow the past.

        Returns:
            [R, T, E], keys and values of all tokens, and where the last layer looked [P, H, R / P T, N].
        """
        x = self._embed(tokens, past[0][0].shape[2] if past else 0)
        later = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).triu(1)
        kept, looks = [], x
        for i, layer in enumerate(self.text.bert.encoder.layer):
            own = layer.attention.self
            keys, values = self._heads(own.key(x)), self._heads(own.value(x))
            if past:
                keys, values = torch.cat([past[i][0], keys], dim=2), torch.cat([past[i][1], values], dim=2)
            kept.append((keys, values))
            x = self._attend(layer.attention, x, keys, values, None if past else later)[0]
            together = x.reshape(len(grids[i][0]), -1, x.shape[2])
            seen, looks = self._attend(layer.crossattention, together, *grids[i], None)
            x = layer.feed_forward_chunk(seen.view_as(x))
        return x, kept, looks

    def _attend(
        self, attention: Any, x: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """x [P, Q, E] after it read keys and values [P, H, M, D], and where it looked [P, H, Q, M]; some are hidden."""
        query = self._heads(attention.self.query(x))
        scores = query @ keys.mT * query.shape[3] ** -0.5
        if hidden is not None:
            scores = scores.masked_fill(hidden, float("-inf"))
        looks = scores.softmax(dim=3)
        read = attention.self.dropout(looks).to(values.dtype) @ values
        return attention.output(read.transpose(1, 2).flatten(2), x), looks

    def _heads(self, x: Tensor) -> Tensor:
        """[R, T, H D] to [R, H, T, D]."""
        return x.unflatten(2, (self.text.config.num_attention_heads, -1)).transpose(1, 2)

    def _embed(self, tokens: Tensor, place: int) -> Tensor:
        """Vectors [R, T, E] of tokens [R, T], the first of which stands at `place` of its caption."""
        style = tokens - len(SPECIAL)
        last = self.styles.num_embeddings - 1
        starts = ((style >= 0) & (style <= last)).unsqueeze(2)
        words = self.text.get_input_embeddings()(tokens)
        words = torch.where(starts, self.styles(style.clamp(0, last)), words)
        return self.text.bert.embeddings(inputs_embeds=words, past_key_values_length=place)

    def _read(self, name: str, vocabulary: int, styles: int) -> None:
        """Takes BLIP's weights; each style begins as the token that starts BLIP's captions."""
        words = read_blip_vocabulary(name)
        ids = torch.tensor(words.ids(styles))
        if len(ids) != vocabulary:
            raise UserError(f"model.decoder: {vocabulary} tokens, but {name} has {len(ids)}; use its own tokenizer")
        state = load_blip(name).text_decoder.state_dict()
        self.styles.weight.data.copy_(state[BY_WORD[0]][words.start])
        self.text.load_state_dict(state | {key: state[key][ids] for key in (*BY_WORD, *BY_WORD_TIED)})


def _random(backbone: BackboneConfig, vocabulary: int, channels: int) -> Any:
    """transformers' BlipTextLMHeadModel with random weights, of the sizes that the backbone's config holds."""
    require_peft("transformers")
    from transformers import BlipTextConfig
    from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

    tokens = {"pad_token_id": PAD, "eos_token_id": END, "sep_token_id": END, "bos_token_id": len(SPECIAL)}
    sizes = {"vocab_size": vocabulary, "encoder_hidden_size": channels}
    try:
        return BlipTextLMHeadModel(BlipTextConfig(**backbone.options["text"], **sizes, **tokens))
    except Exception as error:  # transformers checks sizes in many ways
        raise UserError(f"model.backbone.options.text: no such BLIP ({one_line(error)[:200]})") from error


def _pairs(parts: list[Tensor]) -> Pairs:
    return list(zip(parts[::2], parts[1::2], strict=True))
