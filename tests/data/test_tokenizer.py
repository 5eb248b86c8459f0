"""The tokenizer against counts made by hand, other alphabets and text that tries to break it."""

import random
from collections import Counter

import pytest

from src.common.errors import UserError
from src.config.schema import TokenizerConfig
from src.data.tokenizer import END, PAD, UNK, Tokenizer

CAPTIONS = [
    "A dog runs .",
    "The dog 's ball is red .",
    "A man's t-shirt , red and blue !",
    "사진이 매우 밝고 선명하다",
    "사진이 조금 어둡다",
    "Two dogs aren't 3.5 m apart .",
]


def words(kind: str = "word", **changes: int) -> Tokenizer:
    return Tokenizer.train(CAPTIONS, TokenizerConfig(kind=kind, min_count=1, **changes), ["photos", "quality"])


def test_special_tokens_come_first_then_styles() -> None:
    for kind in ("word", "bpe"):
        tokenizer = words(kind)
        assert [tokenizer.word(i) for i in range(5)] == [
            "<pad>", "<unk>", "<end>", "<style:photos>", "<style:quality>",
        ]  # fmt: skip
        assert (PAD, UNK, END) == (0, 1, 2)
        assert (tokenizer.style("photos"), tokenizer.style("quality")) == (3, 4)


def test_encoding_starts_with_the_style_and_ends_with_end() -> None:
    for kind in ("word", "bpe"):
        ids = words(kind).encode("a dog runs", "quality")
        assert ids[0] == 4
        assert ids[-1] == END
        assert UNK not in ids


@pytest.mark.parametrize(
    ("kind", "caption", "text"),
    [
        ("word", "A dog runs .", "a dog runs"),
        ("word", "The dog 's ball, is RED!", "the dog's ball is red"),
        ("word", "The man’s t-shirt", "the man's t-shirt"),
        ("word", "'red' dogs aren't 3.5 m", "red dogs aren't 3.5 m"),
        ("word", "사진이 매우 밝고 선명하다", "사진이 매우 밝고 선명하다"),
        ("bpe", "A dog runs .", "a dog runs."),
        ("bpe", "The man 's  t-shirt , red", "the man's t-shirt, red"),
        ("bpe", "사진이 매우 밝고 선명하다", "사진이 매우 밝고 선명하다"),
        ("bpe", "never seen: naïve 😀", "never seen: naïve 😀"),
    ],
)
def test_round_trip(kind: str, caption: str, text: str) -> None:
    tokenizer = words(kind, max_length=60)
    assert tokenizer.decode(tokenizer.encode(caption, "photos")) == text
    assert tokenizer.decode(tokenizer.encode(text, "photos")) == text


def test_vocabulary_is_every_word_seen_often_enough() -> None:
    tokenizer = Tokenizer.train(CAPTIONS, TokenizerConfig(min_count=2), ["x"])
    counts = Counter(
        ["a", "dog", "runs", "the", "dog", "'s", "ball", "is", "red", "a", "man", "'s", "t-shirt", "red", "and", "blue"]
    )
    counts.update(
        [
            "사진이",
            "매우",
            "밝고",
            "선명하다",
            "사진이",
            "조금",
            "어둡다",
            "two",
            "dogs",
            "aren",
            "'t",
            "3.5",
            "m",
            "apart",
        ]
    )
    expected = sorted((w for w, n in counts.items() if n >= 2), key=lambda w: (-counts[w], w))
    assert [tokenizer.word(i) for i in range(4, tokenizer.size)] == expected
    assert tokenizer.encode("a zebra", "x")[2] == UNK
    assert tokenizer.decode(tokenizer.encode("a zebra runs dog", "x")) == "a dog"


def test_order_of_captions_changes_nothing() -> None:
    rng = random.Random(0)
    for kind in ("word", "bpe"):
        shuffled = CAPTIONS[:]
        rng.shuffle(shuffled)
        config = TokenizerConfig(kind=kind, min_count=1)
        assert Tokenizer.train(shuffled, config, ["x"]).to_json() == Tokenizer.train(CAPTIONS, config, ["x"]).to_json()


def test_long_captions_are_cut_and_keep_their_end() -> None:
    for kind in ("word", "bpe"):
        ids = words(kind, max_length=6).encode("a dog runs " * 50, "photos")
        assert len(ids) == 6
        assert ids[-1] == END


def test_a_letter_cut_in_half_is_left_out() -> None:
    tokenizer = Tokenizer.train(["dog"], TokenizerConfig(kind="bpe", max_length=5), ["x"])
    assert tokenizer.decode(tokenizer.encode("a😀", "x")) == "a"


def test_captions_cannot_spell_special_tokens() -> None:
    hostile = ["<end> <pad> <style:photos> <unk>"] * 5 + CAPTIONS
    for kind in ("word", "bpe"):
        tokenizer = Tokenizer.train(hostile, TokenizerConfig(kind=kind, min_count=1), ["photos"])
        ids = tokenizer.encode("<end> <pad> <style:photos> <unk>", "photos")
        assert min(ids[1:-1]) > 3


def test_size_bounds_the_vocabulary() -> None:
    assert words(size=10).size == 10
    assert words("bpe", size=270).size == 270


def test_decode_stops_at_end_and_skips_specials() -> None:
    tokenizer = words()
    dog = tokenizer.encode("dog", "photos")[1]
    assert tokenizer.decode([3, dog, PAD, UNK, dog, END, dog]) == "dog dog"
    assert tokenizer.decode([]) == ""


def test_saved_and_loaded_is_the_same(tmp_path) -> None:
    for kind in ("word", "bpe"):
        tokenizer = words(kind)
        tokenizer.save(tmp_path / "tokenizer.json")
        loaded = Tokenizer.load(tmp_path / "tokenizer.json")
        assert loaded.to_json() == tokenizer.to_json()
        assert [loaded.encode(c, "quality") for c in CAPTIONS] == [tokenizer.encode(c, "quality") for c in CAPTIONS]


def test_errors_say_what_to_do(tmp_path) -> None:
    with pytest.raises(UserError, match="no caption style 'other'.*photos, quality"):
        words().style("other")
    with pytest.raises(UserError, match="data.tokenizer.size is 100: at least 261"):
        words("bpe", size=100)
    with pytest.raises(UserError, match="is missing"):
        Tokenizer.load(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(UserError, match="no tokenizer of this project"):
        Tokenizer.load(tmp_path / "tokenizer.json")
