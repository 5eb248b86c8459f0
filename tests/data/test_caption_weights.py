"""Weights of captions against counters of Python, and how often captions are drawn against these weights."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import UserError
from src.config.loader import load_config
from src.config.schema import TokenizerConfig
from src.data.caption_weights import ngram_weights
from src.data.dataset import EncodedCaptions, ImageDataset, InputOptions
from src.data.sample import Sample
from src.data.sampler import ImageDraw
from src.data.tokenizer import Tokenizer
from src.training.config_checks import check_config

TEXTS = ("a dark sky", "a dark sky over the sea", "sea", "qqq zzz", "a dark dark sky", "the sea the sea the sea")


def plain_weights(captions: list[list[str]], known: set[str]) -> list[float]:
    """The formula of the docstring, n-gram by n-gram."""
    grams = [[tuple(words[i : i + n]) for i in range(len(words) - n + 1)] for words in captions for n in range(1, 5)]
    counts = Counter(gram for some in grams for gram in some)
    logs = [
        sum(math.log(counts[gram]) if set(gram) <= known else 0.0 for gram in some) / max(1, len(some))
        for some in grams
    ]
    return [math.exp(sum(logs[4 * i : 4 * i + 4]) / 4) for i in range(len(captions))]


def encode(texts: tuple[str, ...]) -> tuple[Tokenizer, EncodedCaptions]:
    tokenizer = Tokenizer.train([*TEXTS[:3], *TEXTS[4:]], TokenizerConfig(min_count=1), ["s"])
    samples = [Sample(Path("x"), "x", "s", None, texts), Sample(Path("y"), "y", "s"), Sample(Path("z"), "z", "s", 1.0)]
    return tokenizer, EncodedCaptions(samples, tokenizer, np.full(3, tokenizer.style("s")), weighted=True)


def test_weights_are_geometric_means_of_frequencies() -> None:
    _, captions = encode(TEXTS)
    known = {word for text in TEXTS if "qqq" not in text for word in text.split()}
    expected = plain_weights([text.split() for text in TEXTS], known)
    assert captions.weights is not None
    np.testing.assert_allclose(captions.weights, expected)
    assert captions.weights[3] == 1  # unknown words alone


def test_no_caption_is_no_error() -> None:
    assert ngram_weights(np.empty(0, np.int32), np.zeros(1, np.int64), 4).shape == (0,)
    _, captions = encode(())
    assert captions.draw(np.array([0, 1]), np.array([0, 0]), 1, 0).shape == (2, 0)


def test_captions_are_drawn_in_proportion_to_their_weights_and_without_repetition() -> None:
    _, captions = encode(TEXTS)
    turns = np.arange(20_000)
    drawn = captions.draw(np.zeros(len(turns), np.int64), turns, 2, 7)
    assert (drawn[:, 0] != drawn[:, 1]).all()
    weights = captions.weights / captions.weights.sum()
    np.testing.assert_allclose(np.bincount(drawn[:, 0], minlength=6) / len(turns), weights, atol=0.01)
    second = np.array([sum(weights[a] * weights[b] / (1 - weights[a]) for a in range(6) if a != b) for b in range(6)])
    np.testing.assert_allclose(np.bincount(drawn[:, 1], minlength=6) / len(turns), second, atol=0.01)


def test_training_draws_so_and_evaluation_takes_all_in_order() -> None:
    tokenizer, _ = encode(TEXTS)
    sample = Sample(Path("x"), "x", "s", None, ("a dark sky", "qqq zzz"))
    options = InputOptions(mos=False, captions=False, training=True, captions_per_photo=1, captions_weighting="ngram")
    training = ImageDataset([sample] * 9, tokenizer, ["s"] * 9, options)
    batch = training.__getitems__([ImageDraw(i, turn) for i in range(9) for turn in range(100)])
    typical = np.mean([tokenizer.decode(row[0].tolist()) == "a dark sky" for row in batch.tokens])
    weights = training.captions.weights
    assert weights is not None
    assert typical == pytest.approx(weights[0] / weights[:2].sum(), abs=0.05)
    evaluated = ImageDataset([sample], tokenizer, ["s"], replace(options, training=False))
    assert evaluated.captions.weights is None
    assert evaluated.__getitems__([ImageDraw(0, 3)]).references == [["a dark sky", "qqq zzz"]]


def test_weights_need_a_number_of_captions() -> None:
    file = Path(__file__).parents[2] / "configs/demo.yaml"
    with pytest.raises(UserError, match="data.captions_weighting: data.captions_per_photo 0 takes all"):
        check_config(load_config(file, {"data.captions_weighting": "ngram", "data.captions_per_photo": 0}))
