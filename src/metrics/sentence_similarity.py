"""Semantic similarity of captions: cosine of mean GloVe vectors, or of a sentence-transformers model's vectors.

Notation: P images, D size of a vector.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from src.common.errors import UserError, one_line
from src.metrics.base import MetricOption, OptionalMetric, ScoreInfo
from src.metrics.text.corpus import flatten_references, mean_over_references
from src.metrics.text.pretrained_model import in_chunks, last_layer, load_text_model, resolve_model_name, row_cosine
from src.metrics.text.ptb_tokenizer import tokenize


def glove_similarity(candidates: Sequence[str], references: Sequence[Sequence[str]], path: Path) -> np.ndarray:
    """Cosine of mean GloVe vectors (Pennington et al. 2014) of PTB words, mean over the references [P].

    Raises:
        UserError: the file cannot be read, or is no file of word vectors.
    """
    owner, flat = flatten_references(references)
    tokens = tokenize(candidates), tokenize(flat)
    vectors = read_glove(path, {word for captions in tokens for caption in captions for word in caption.split()})
    if not vectors:
        raise UserError(f"--glove {path}: holds vectors of none of the captions' words; name a GloVe text file")
    size = len(next(iter(vectors.values())))
    a, b = (np.stack([_mean_vector(caption, vectors, size) for caption in captions]) for captions in tokens)
    return mean_over_references(row_cosine(a[owner], b), owner)


def read_glove(path: Path, words: set[str]) -> dict[str, np.ndarray]:
    """The vectors of some words, from a file of lines `word number number ...`.

    Raises:
        UserError: the file cannot be read, or a line does not hold a word and as many numbers as others.
    """
    vectors: dict[str, np.ndarray] = {}
    size = 0
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                word, _, rest = line.rstrip().partition(" ")
                if is_header := number == 1 and rest.isdigit():  # word2vec's text has a first line of sizes
                    size = int(rest)
                size = size or len(rest.split())
                if word in words and not is_header:
                    values = rest.split()
                    if len(values) < size:
                        raise ValueError(f"line {number} has {len(values)} numbers, not {size}")
                    if len(values) == size:  # else its word holds spaces: "at name@domain.com" of Common Crawl
                        vectors[word] = np.array(values, dtype=np.float32)
    except OSError as error:
        raise UserError(f"--glove {path}: cannot be read ({error.strerror}); name a GloVe text file") from error
    except ValueError as error:
        raise UserError(f"--glove {path}: is no file of word vectors ({one_line(error)}); check it") from error
    return vectors


def check_glove(path: str) -> None:
    """Raises UserError where there is no such file."""
    if not Path(path).is_file():
        raise UserError(f"--glove {path}: no such file; name a GloVe text file")


def _mean_vector(caption: str, vectors: dict[str, np.ndarray], size: int) -> np.ndarray:
    known = [vectors[word] for word in caption.split() if word in vectors]
    return np.mean(known, axis=0) if known else np.zeros(size, dtype=np.float32)


def sentence_similarity(candidates: Sequence[str], references: Sequence[Sequence[str]], model: str) -> np.ndarray:
    """Cosine of sentence vectors (Reimers and Gurevych 2019), mean over the references [P].

    A vector is the mean of the last layer over a caption's tokens, as most sentence-transformers models pool.

    Raises:
        UserError: the model cannot be loaded.
    """
    loaded = load_text_model("--sentence", model)
    owner, flat = flatten_references(references)
    a, b = (
        np.concatenate([_sentence_vectors(chunk, *loaded) for chunk in in_chunks(texts)])
        for texts in (candidates, flat)
    )
    return mean_over_references(row_cosine(a[owner], b), owner)


def _sentence_vectors(texts: list[str], model: Any, tokenizer: Any) -> np.ndarray:
    last, mask = last_layer(texts, model, tokenizer)
    mask = mask.unsqueeze(2)
    return ((last * mask).sum(1) / mask.sum(1).clamp(min=1)).float().numpy()


METRICS = [
    OptionalMetric(
        scores=[ScoreInfo("similarity_glove")],
        head="captions",
        order=320,
        option=MetricOption("glove", str, "similarity too, by this file of GloVe vectors (text)", check_glove),
        per_image=lambda table, path: glove_similarity(table.candidates, table.references, Path(path)),
    ),
    OptionalMetric(
        scores=[ScoreInfo("similarity_sentence")],
        head="captions",
        order=330,
        option=MetricOption(
            "sentence",
            str,
            "similarity too, by this sentence-transformers model that pools by the mean: a folder or hub name",
            partial(resolve_model_name, "--sentence"),
        ),
        per_image=lambda table, model: sentence_similarity(table.candidates, table.references, model),
    ),
]
