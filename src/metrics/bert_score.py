"""BERTScore (Zhang et al. 2020) by any transformers model. Notation: P images, T tokens, D size of a vector."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from src.metrics.base import MetricOption, OptionalMetric, ScoreInfo
from src.metrics.text.corpus import best_over_references, flatten_references
from src.metrics.text.pretrained_model import in_chunks, last_layer, load_text_model, resolve_model_name


def bert_score(candidates: Sequence[str], references: Sequence[Sequence[str]], model: str) -> np.ndarray:
    """BERTScore F1 with the last layer, no idf, no rescaling: the best over the references [P].

    Not torchmetrics' own: version 1.9 puts captions of unlike lengths back in a wrong order, and pairs them wrongly.

    Raises:
        UserError: the model cannot be loaded.
    """
    loaded = load_text_model("--bert", model)
    owner, flat = flatten_references(references)
    pairs = zip((candidates[i] for i in owner), flat, strict=True)
    values = [
        bert_pair_f1(a, b)
        for chunk in in_chunks(pairs)
        for a, b in zip(*(_token_vectors([pair[side] for pair in chunk], *loaded) for side in (0, 1)), strict=True)
    ]
    return best_over_references(np.array(values), owner)


def bert_pair_f1(candidate: np.ndarray, reference: np.ndarray) -> float:
    """F1 of token vectors [T, D] of length 1, each matched with the nearest of the other caption; 0 without tokens."""
    if not len(candidate) or not len(reference):
        return 0.0
    cosine = candidate @ reference.T
    precision, recall = cosine.max(1).mean(), cosine.max(0).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall > 0 else 0.0


def _token_vectors(texts: list[str], model: Any, tokenizer: Any) -> list[np.ndarray]:
    """For each text the vectors of its tokens [T, D], of length 1, without the special ones at its ends."""
    last, mask = last_layer(texts, model, tokenizer)
    rows = [vectors[inside][1:-1].float().numpy() for vectors, inside in zip(last, mask.bool(), strict=True)]
    return [row / np.maximum(np.linalg.norm(row, axis=1, keepdims=True), 1e-12) for row in rows]


METRICS = [
    OptionalMetric(
        scores=[ScoreInfo("bert_score")],
        head="captions",
        order=310,
        option=MetricOption(
            "bert", str, "BERTScore too, by this model: a folder or hub name", partial(resolve_model_name, "--bert")
        ),
        per_image=lambda table, model: bert_score(table.candidates, table.references, model),
    )
]
