"""BLIP's text decoder (Li et al. 2022): transformers' layers, with a grid that is shared by an image's captions.
Held by tests/models/backbones/test_blip.py.

Notation: B images, K captions an image, T tokens a caption, N places of the grid, C channels, R captions in work,
P images that they belong to, V tokens in the vocabulary, E size of word vectors, H heads, D size of a head,
S tokens so far, Q queries, M places that they attend to.
"""

import json
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer as Engine
from torch import Tensor, nn

from src.common.errors import UserError, one_line
from src.config.schema import BackboneConfig, Config, DecoderConfig
from src.data.formats.base import style_names
from src.data.tokenizer import END, PAD, SPECIAL, Tokenizer
from src.models.backbones.blip import is_blip, load_blip, read_blip
from src.models.decoders.base import CaptionDecoder
from src.models.layers.decoder_state import DecoderState
from src.models.layers.lora import add_lora, require_peft
from src.models.losses._cross_entropy import linear_cross_entropy

Pairs = list[tuple[Tensor, Tensor]]
BY_WORD = ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias")
BY_WORD_TIED = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")


class BlipDecoder(CaptionDecoder):
    """BERT with cross-attention to the grid, over BLIP's own words in the order of this project's tokenizer.

    The weights and all layers but attention are transformers'. In attention an image's captions share one set of keys
    and values, where transformers copies the set for each caption.
    """

    brings_tokenizer = True
    uses_backbone = True

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
        self.text = _random_text_model(backbone, vocabulary, channels)
        self.styles = nn.Embedding(styles, self.text.config.hidden_size)
        if backbone.weights != "none":
            self._load_weights(backbone.name, vocabulary, styles)
        if config.lora.rank:
            add_lora(self.text, config.lora, "model.decoder.lora")

    @classmethod
    def has_attention(cls, config: DecoderConfig) -> bool:
        """Always: `step` gives the last layer's cross-attention."""
        return True

    @classmethod
    def tokenizer(cls, config: Config) -> Tokenizer | None:
        """BLIP's own; None where its weights are not used.

        Raises:
            UserError: as read_blip.
        """
        backbone = config.model.backbone
        if not is_blip(backbone.name) or backbone.weights == "none":
            return None
        styles = style_names(config.data.sources)
        return read_blip_vocabulary(backbone.name).tokenizer(styles, config.data.tokenizer.max_length)

    def forward(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """Teacher forcing, as CaptionDecoder's."""
        logits = self.text.cls(self._hidden(grid, tokens))
        return logits.view(*tokens.shape[:2], tokens.shape[2] - 1, -1)

    def loss(
        self, grid: Tensor, tokens: Tensor, smoothing: float = 0, scale: Tensor | None = None, temperature: float = 1
    ) -> Tensor:
        """Cross-entropy, as CaptionDecoder's."""
        targets = tokens[:, :, 1:].flatten()
        words = (targets != PAD).nonzero().squeeze(1)
        head = self.text.cls.predictions
        hidden = head.transform(self._hidden(grid, tokens).flatten(0, 1)[words])
        weights = None if scale is None else scale.flatten()[words // (tokens.shape[2] - 1)]
        last = head.decoder
        return linear_cross_entropy(hidden, last.weight, last.bias, targets[words], smoothing, weights, temperature)

    def start(self, grid: Tensor) -> DecoderState:
        """The state of one caption an image, before its first token; grid [B, N, C].

        Shared: keys and values of the grid [B, H, N, D], layer by layer. Parts: those of the tokens so far
        [R, H, S, D]; none before the first.
        """
        grid = grid.to(self.styles.weight.dtype)
        attentions = [layer.crossattention.self for layer in self.text.bert.encoder.layer]
        grids = [self._heads(part(grid)) for attention in attentions for part in (attention.key, attention.value)]
        return DecoderState(torch.arange(len(grid), device=grid.device), grids, [])

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState, Tensor]:
        """As CaptionDecoder's; attention is the last layer's, the mean over its heads."""
        grids = _pairs(state.grouped_shared())
        hidden, past, attention = self._layers(tokens.unsqueeze(1), grids, _pairs(state.parts))
        after = state.advance(*(part for pair in past for part in pair))
        return self.text.cls(hidden).squeeze(1), after, attention.mean(dim=1).flatten(0, 1)

    def _hidden(self, grid: Tensor, tokens: Tensor) -> Tensor:
        """[B K, T - 1, E] for all tokens but the last."""
        return self._layers(tokens[:, :, :-1].flatten(0, 1), _pairs(self.start(grid).shared), [])[0]

    def _layers(self, tokens: Tensor, grids: Pairs, past: Pairs) -> tuple[Tensor, Pairs, Tensor]:
        """All layers over tokens [R, T] that follow the past.

        Returns:
            [R, T, E], keys and values of all tokens, and the last layer's attention [P, H, R / P T, N].
        """
        x = self._embed(tokens, past[0][0].shape[2] if past else 0)
        later = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).triu(1)
        cache, weights = [], x
        for i, layer in enumerate(self.text.bert.encoder.layer):
            attention = layer.attention.self
            keys, values = self._heads(attention.key(x)), self._heads(attention.value(x))
            if past:
                keys, values = torch.cat([past[i][0], keys], dim=2), torch.cat([past[i][1], values], dim=2)
            cache.append((keys, values))
            x = self._attend(layer.attention, x, keys, values, None if past else later)[0]
            grouped = x.reshape(len(grids[i][0]), -1, x.shape[2])
            context, weights = self._attend(layer.crossattention, grouped, *grids[i], None)
            x = layer.feed_forward_chunk(context.view_as(x))
        return x, cache, weights

    def _attend(
        self, attention: Any, x: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """x [P, Q, E] after attention to keys and values [P, H, M, D], and weights [P, H, Q, M], 0 where `hidden`."""
        query = self._heads(attention.self.query(x))
        scores = query @ keys.mT * query.shape[3] ** -0.5
        if hidden is not None:
            scores = scores.masked_fill(hidden, float("-inf"))
        weights = scores.softmax(dim=3)
        context = attention.self.dropout(weights).to(values.dtype) @ values
        return attention.output(context.transpose(1, 2).flatten(2), x), weights

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

    def _load_weights(self, name: str, vocabulary: int, styles: int) -> None:
        """Takes BLIP's weights; each style begins as the token that starts BLIP's captions."""
        words = read_blip_vocabulary(name)
        ids = torch.tensor(words.ids(styles))
        if len(ids) != vocabulary:
            raise UserError(f"model.decoder: {vocabulary} tokens, but {name} has {len(ids)}; use its own tokenizer")
        state = load_blip(name).text_decoder.state_dict()
        self.styles.weight.data.copy_(state[BY_WORD[0]][words.start])
        self.text.load_state_dict(state | {key: state[key][ids] for key in (*BY_WORD, *BY_WORD_TIED)})


def _random_text_model(backbone: BackboneConfig, vocabulary: int, channels: int) -> Any:
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


@dataclass
class BlipVocabulary:
    """The words of a BLIP.

    Attributes:
        engine: the content of its tokenizer.json.
        first: its ids of the tokens pad, unk and end of this project.
        start: its id of the token that starts a caption.
    """

    engine: dict[str, Any]
    first: list[int]
    start: int

    def ids(self, styles: int) -> list[int]:
        """Its id of each token of this project; a style is another token that starts a caption."""
        return self.first + [self.start] * styles + list(self._plain().values())

    def tokenizer(self, styles: list[str], max_length: int) -> Tokenizer:
        """This project's tokenizer with its words: pad, unk and end, the styles, then the others in their order."""
        names = {token: name for name, token in self.engine["model"]["vocab"].items()}
        tokens = [*(names[token] for token in self.first), *(f"<style:{style}>" for style in styles), *self._plain()]
        model = self.engine["model"] | {"vocab": {name: i for i, name in enumerate(tokens)}}
        parts = {"model": model, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        return Tokenizer(Engine.from_str(json.dumps(self.engine | parts)), "wordpiece", styles, max_length)

    def _plain(self) -> dict[str, int]:
        """Words to ids, in the order of these, without special tokens."""
        special = {token["id"] for token in self.engine["added_tokens"]} | {self.start}
        ordered = sorted(self.engine["model"]["vocab"].items(), key=lambda pair: pair[1])
        return {name: token for name, token in ordered if token not in special}


def read_blip_vocabulary(name: str) -> BlipVocabulary:
    """The words of a BLIP by its backbone's name; errors as read_blip."""

    def load(library: Any, place: str) -> BlipVocabulary:
        words, text = (
            library.BertTokenizer.from_pretrained(place),
            library.BlipConfig.from_pretrained(place).text_config,
        )
        first = [words.pad_token_id, words.unk_token_id, text.sep_token_id]
        return BlipVocabulary(json.loads(words.backend_tokenizer.to_str()), first, text.bos_token_id)

    return read_blip(name, load)


DECODER = BlipDecoder
