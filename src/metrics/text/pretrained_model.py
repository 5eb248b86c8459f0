"""Pretrained models for scores: loaded from a folder or the hub, run in chunks.

Notation: B texts, T tokens, D size of a vector, R rows.
Held by tests/metrics/test_bert_score.py, test_clip_score.py and test_sentence_similarity.py.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.common.errors import UserError, one_line

if TYPE_CHECKING:
    import torch

CHUNK = 64
LONGEST = 128  # tokens of a caption


def load_pretrained(option: str, name: str, load: Callable[[str], Any]) -> Any:
    """The result of `load` for a folder or hub name.

    Raises:
        UserError: it is no such model, or cannot be fetched.
    """
    try:
        return load(resolve_model_name(option, name))
    except Exception as error:  # transformers raises many kinds, for a wrong folder and for a hub that does not answer
        remedy = "name a folder that holds the model, or its hub name where there is a network"
        raise UserError(f"{option} {name}: cannot be loaded ({one_line(error)[:160]}); {remedy}") from error


def resolve_model_name(option: str, name: str) -> str:
    """The folder of a name, else the hub name that it is. Raises UserError where it names a folder that is missing."""
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    path = Path(name).expanduser()
    if looks_local and not path.exists():
        raise UserError(f"{option} {name}: no such folder; name one that holds the model, or its hub name")
    return str(path) if path.exists() else name


def load_text_model(option: str, name: str) -> tuple[Any, Any]:
    """A transformers model in eval mode, and its tokenizer. Raises as load_pretrained."""
    from transformers import AutoModel, AutoTokenizer

    return load_pretrained(option, name, lambda n: (load_network(AutoModel, n), AutoTokenizer.from_pretrained(n)))


def load_network(kind: Any, name: str) -> Any:
    """A network of a transformers class, in eval mode.

    Raises:
        ValueError: the files lack tensors, which transformers would leave random; the pooler, which no score reads, may
            be missing.
    """
    network, info = kind.from_pretrained(name, output_loading_info=True)
    if missing := sorted(key for key in info["missing_keys"] if not key.startswith("pooler.")):
        raise ValueError(f"{len(missing)} of its tensors are missing, such as {missing[0]}")
    return network.eval()


def last_layer(texts: list[str], model: Any, tokenizer: Any) -> "tuple[torch.Tensor, torch.Tensor]":
    """The last layer [B, T, D], and which tokens are no padding [B, T]."""
    import torch  # slow, and not in use before a score is computed

    longest = min(LONGEST, tokenizer.model_max_length)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    with torch.inference_mode():
        return model(**batch).last_hidden_state, batch["attention_mask"]


def row_cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row of a [R, D] with the same row of b: [R]; 0 where a row is 0."""
    below = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.where(below > 0, below, 1.0)


def in_chunks(values: Iterable) -> Iterator[list]:
    """Values, CHUNK at a time."""
    rest = iter(values)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
