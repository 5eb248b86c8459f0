"""Diversity of captions: distinct captions, their share, and distinct words.

Held by tests/metrics/test_compute.py.
"""

from src.metrics.base import CaptionTable, MetricResult, ScoreInfo, TableMetric
from src.metrics.text.ptb_tokenizer import tokenize


def measure_diversity(table: CaptionTable) -> MetricResult:
    """distinct_captions, distinct_share (0..1) and vocabulary_used (words), of captions as PTB tokens.

    A resample would repeat captions, so there is no interval.
    """
    captions = tokenize(table.candidates)
    distinct = len(set(captions))
    words = {word for caption in captions for word in caption.split()}
    return MetricResult(
        {
            "distinct_captions": float(distinct),
            "distinct_share": distinct / len(captions),
            "vocabulary_used": float(len(words)),
        }
    )


METRICS = [
    TableMetric(
        scores=[ScoreInfo("distinct_captions"), ScoreInfo("distinct_share"), ScoreInfo("vocabulary_used")],
        head="captions",
        order=20,
        needs_references=False,
        measure=measure_diversity,
    )
]
