"""Words: captions to token ids and back, trained on the training split only.

Ids: 0 pad, 1 unk, 2 end, then one token a caption style, then the words.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from src.common.errors import UserError
from src.common.files import write_text
from src.config.schema import TokenizerConfig

PAD, UNK, END = 0, 1, 2
SPECIAL = ["<pad>", "<unk>", "<end>"]
# A word keeps its inner hyphens (t-shirt, as the Penn Treebank tokenizer of the scores does) and decimals (3.5);
# 's and its like are tokens of their own, for "man's" and Flickr8k's "man 's" are the same words.
WORD = r"\p{N}+(?:[.,]\p{N}+)+|[\p{L}\p{M}\p{N}]+(?:-[\p{L}\p{M}\p{N}]+)*|'(?:s|t|d|m|re|ve|ll)\b"


class Tokenizer:
    """Captions to ids and back.

    Word level is lower-cased and without punctuation, as the scores are. BPE works on bytes, so no
    text is unknown to it; it is lower-cased and keeps punctuation.

    Attributes:
        kind: word, bpe, or wordpiece, which comes with a BLIP.
        styles: the caption styles, in the order of their tokens.
        max_length: most tokens of an encoded caption, style and end tokens included.
    """

    def __init__(self, engine: Engine, kind: str, styles: Sequence[str], max_length: int) -> None:
        self.engine = engine
        self.kind = kind
        self.styles = list(styles)
        self.max_length = max_length

    @classmethod
    def train(cls, captions: Iterable[str], config: TokenizerConfig, styles: Sequence[str]) -> "Tokenizer":
        """Learns the vocabulary from captions, the same one for the same captions in any order.

        Raises:
            UserError: the vocabulary's size leaves no room for words.
        """
        special = SPECIAL + [f"<style:{style}>" for style in styles]
        least = len(special) + (256 if config.kind == "bpe" else 1)
        if config.size < least:
            raise UserError(f"data.tokenizer.size is {config.size}: at least {least} are needed for {config.kind}")
        engine, trainer = _engine(config, special)
        engine.train_from_iterator(captions, trainer)
        return cls(_without_added(engine), config.kind, styles, config.max_length)

    @property
    def size(self) -> int:
        """Entries of the vocabulary, special ones included."""
        return self.engine.get_vocab_size()

    @property
    def words(self) -> int:
        """Entries of the vocabulary that are neither special nor a style."""
        return self.size - self.first_word

    @property
    def first_word(self) -> int:
        """The lowest id that is neither special nor a style."""
        return len(SPECIAL) + len(self.styles)

    def style(self, name: str) -> int:
        """The id of a style's token.

        Raises:
            UserError: the tokenizer was not trained with that style.
        """
        if name not in self.styles:
            raise UserError(f"no caption style {name!r}: this model knows {', '.join(self.styles) or 'none'}")
        return len(SPECIAL) + self.styles.index(name)

    def word(self, token: int) -> str:
        """The token of an id, as it stands in the vocabulary."""
        return self.engine.id_to_token(token) or SPECIAL[UNK]

    def encode(self, caption: str, style: str) -> list[int]:
        """[style, words.., end], words cut so that at most max_length ids remain."""
        return self.encode_all([caption], [self.style(style)])[0]

    def encode_all(self, captions: Sequence[str], styles: Sequence[int]) -> list[list[int]]:
        """As encode, for many captions at once, each with the id of its style's token."""
        room = self.max_length - 2
        encodings = self.engine.encode_batch_fast(list(captions), add_special_tokens=False)
        return [[style, *words.ids[:room], END] for words, style in zip(encodings, styles, strict=True)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text up to the end token; special tokens and unknown words are left out."""
        words: list[int] = []
        for token in ids:
            if token == END:
                break
            if token >= self.first_word:
                words.append(int(token))
        if self.kind != "word":
            # A caption cut within a letter of several bytes leaves half of it behind (bpe).
            return self.engine.decode(words, skip_special_tokens=False).replace("\ufffd", "").strip()
        return " ".join(map(self.word, words)).replace(" '", "'")

    def to_json(self) -> str:
        """Everything that from_json needs, as text."""
        head = {"kind": self.kind, "styles": self.styles, "max_length": self.max_length}
        return json.dumps({**head, "tokenizer": json.loads(self.engine.to_str())}, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, name: str = "tokenizer.json") -> "Tokenizer":
        """The tokenizer that to_json wrote.

        Raises:
            UserError: the text is no such tokenizer; `name` says which file it came from.
        """
        try:
            content = json.loads(text)
            engine = Engine.from_str(json.dumps(content["tokenizer"]))
            return cls(engine, content["kind"], content["styles"], content["max_length"])
        except Exception as error:  # the engine raises plain Exception
            raise UserError(f"{name} is no tokenizer of this project ({error}): train the model again") from error

    def save(self, path: Path) -> None:
        """Writes to_json to a file."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Reads a file that save wrote.

        Raises:
            UserError: the file is missing or no tokenizer.
        """
        if not path.is_file():
            raise UserError(f"{path} is missing: a model folder holds tokenizer.json")
        return cls.from_json(path.read_text(encoding="utf-8"), str(path))


def normalize_caption(text: str) -> str:
    """Lower case, single spaces: what decides whether two comments are the same."""
    return re.sub(r"\s+", " ", text).strip().lower()


def _engine(config: TokenizerConfig, special: list[str]) -> tuple[Engine, trainers.Trainer]:
    # Angle brackets are dropped so that no caption can spell a special token.
    clean = [
        normalizers.NFC(),
        normalizers.Lowercase(),
        normalizers.Replace("’", "'"),
        normalizers.Replace(Regex("[<>]"), " "),
    ]
    if config.kind == "bpe":
        engine = Engine(models.BPE(unk_token=SPECIAL[UNK]))
        tight = normalizers.Replace(Regex(r"\s+(?=[.,!?;:']|$)"), "")
        single = normalizers.Replace(Regex(r"\s+"), " ")
        engine.normalizer = normalizers.Sequence([*clean, single, tight, normalizers.Strip()])
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        engine.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: trainers.Trainer = trainers.BpeTrainer(
            vocab_size=config.size,
            min_frequency=2,
            special_tokens=special,
            initial_alphabet=alphabet,
            show_progress=False,
        )
        return engine, trainer
    engine = Engine(models.WordLevel(unk_token=SPECIAL[UNK]))
    engine.normalizer = normalizers.Sequence(clean)
    engine.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    trainer = trainers.WordLevelTrainer(
        vocab_size=config.size, min_frequency=config.min_count, special_tokens=special, show_progress=False
    )
    return engine, trainer


def _without_added(engine: Engine) -> Engine:
    # As added tokens, special tokens would be found within a caption's text; their ids stay in the vocabulary.
    content = json.loads(engine.to_str())
    content["added_tokens"] = []
    return Engine.from_str(json.dumps(content))
