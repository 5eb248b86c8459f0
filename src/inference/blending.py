"""Blends of predictions: mean or rank mean of mos without outliers, consensus of captions by vote."""

from collections.abc import Sequence

import numpy as np

FEW = 10  # photos below which document frequencies, and so CIDEr-D, say nothing


def blend_mos(values: np.ndarray, how: str = "mean", outliers: float = 0.0) -> np.ndarray:
    """One mos a photo, in the members' units.

    Args:
        values: [M, P], M members.
        how: mean; or rank: the mean of each photo's ranks, where members' scales differ. It then gets the value that
            stands at that place, on average over the members, in the sorted mos.
        outliers: see `average`.

    Returns:
        [P].
    """
    if how == "mean":
        return mean_without_outliers(values, outliers)
    from scipy.stats import rankdata

    rank = mean_without_outliers(rankdata(values, axis=1), outliers)
    typical = np.sort(values, axis=1).mean(axis=0)
    return np.interp(rank, np.arange(1, values.shape[1] + 1), typical)


def mean_without_outliers(values: np.ndarray, outliers: float = 0.0) -> np.ndarray:
    """Mean over members [M, P] -> [P], without what lies outside Tukey's fences where `outliers` is not 0.

    The fences are `outliers` times the range between the quartiles away from them (Tukey 1977 takes 1.5).
    """
    if not outliers:
        return values.mean(axis=0)
    low, high = np.quantile(values, [0.25, 0.75], axis=0)
    reach = outliers * (high - low)
    kept = (values >= low - reach) & (values <= high + reach)
    kept |= ~kept.any(axis=0)  # two members and narrow fences: neither is nearer the truth
    return np.where(kept, values, 0).sum(axis=0) / kept.sum(axis=0)


def consensus_captions(captions: Sequence[Sequence[str]]) -> list[str]:
    """For each of P photos, of the M captions proposed, the one that agrees best with the others; the first of equals.

    With two members nobody can outvote the other: the first one's are taken.
    """
    if len(captions) < 3:
        return list(captions[0])
    best = caption_agreement(captions).round(9).argmax(axis=0)
    return [captions[member][photo] for photo, member in enumerate(best)]


def caption_agreement(captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Mean CIDEr-D of each caption against the other members' captions of its photo: [M, P].

    Mean ROUGE-L for fewer than FEW photos, which have no document frequencies to speak of.
    """
    from src.metrics.cider import cider_d
    from src.metrics.rouge import rouge_l
    from src.metrics.text.ptb_tokenizer import tokenize

    words = [tokenize(list(member)) for member in captions]
    score = cider_d if len(captions[0]) >= FEW else rouge_l
    others = [words[:i] + words[i + 1 :] for i in range(len(words))]
    pairs = zip(words, others, strict=True)
    return np.stack(
        [score(own, [list(one) for one in zip(*rest, strict=True)], tokenized=True)[1] for own, rest in pairs]
    )
