"""Blends of predictions: mean or rank mean of mos without outliers, consensus of captions by vote."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from src.metrics.cider import cider_d
from src.metrics.rouge import rouge_l
from src.metrics.text.ptb_tokenizer import tokenize

MIN_CIDER_IMAGES = 10  # below, document frequencies, and so CIDEr-D, say nothing


def blend_mos(
    values: np.ndarray, method: str = "mean", outliers: float = 0.0, weights: np.ndarray | None = None
) -> np.ndarray:
    """One mos for each image, in the members' units.

    Args:
        values: [M, P], M members.
        method: mean; or rank, where members' scales differ: the mean of each image's ranks, then the value at that rank
            of the sorted mos, a mean over the members.
        outliers: see `mean_without_outliers`; not with weights.
        weights: [M] of the members in all means; None: equal.

    Returns:
        [P].
    """
    scaled = rankdata(values, axis=1) if method == "rank" else values
    if weights is None:
        blended = mean_without_outliers(scaled, outliers)
    else:
        blended = np.average(scaled, axis=0, weights=weights)
    if method == "mean":
        return blended
    return value_at_rank(blended, np.average(np.sort(values, axis=1), axis=0, weights=weights))


def value_at_rank(rank: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """The values at ranks [P], from 1 and between two as between their values, of values in their order [P]."""
    return np.interp(rank, np.arange(1, len(ordered) + 1), ordered)


def mean_without_outliers(values: np.ndarray, outliers: float = 0.0) -> np.ndarray:
    """Mean over members [M, P] -> [P], without values outside Tukey's fences where `outliers` is not 0.

    The fences lie `outliers` times the interquartile range outside the quartiles (Tukey 1977 takes 1.5).
    """
    if not outliers:
        return values.mean(axis=0)
    low, high = np.quantile(values, [0.25, 0.75], axis=0)
    reach = outliers * (high - low)
    inside = (values >= low - reach) & (values <= high + reach)
    inside |= ~inside.any(axis=0)  # two members and narrow fences: neither is nearer the truth
    return np.where(inside, values, 0).sum(axis=0) / inside.sum(axis=0)


def consensus_captions(captions: Sequence[Sequence[str]]) -> list[str]:
    """For each of P images the one of its M captions that agrees best with the others; the first of equals.

    Of two members neither can outvote the other: the first one's captions are taken.
    """
    if len(captions) < 3:
        return list(captions[0])
    best = caption_agreement(captions).round(9).argmax(axis=0)
    return [captions[member][i] for i, member in enumerate(best)]


def caption_agreement(captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Mean CIDEr-D of each caption with the other members' captions of its image as references: [M, P].

    Mean ROUGE-L for fewer than MIN_CIDER_IMAGES images, whose document frequencies say nothing.
    """
    words = [tokenize(list(member)) for member in captions]
    score = cider_d if len(captions[0]) >= MIN_CIDER_IMAGES else rouge_l
    return np.stack([score(w, _references(words, member), tokenized=True)[1] for member, w in enumerate(words)])


def _references(words: Sequence[list[str]], member: int) -> list[list[str]]:
    """Each image's captions of all members but one."""
    others = [captions for i, captions in enumerate(words) if i != member]
    return [list(captions) for captions in zip(*others, strict=True)]
