"""Weights of captions by how frequent their n-grams are, for drawing typical captions more often.

Notation: C captions, T tokens of all of them.
"""

import numpy as np

ORDERS = 4  # longest n-gram
SHIFT = 31  # an n-gram is keyed by its first words' number and its last word


def ngram_weights(ids: np.ndarray, start: np.ndarray, first_word: int) -> np.ndarray:
    """The weight of each caption: the geometric mean of the frequencies of its n-grams, at least 1.

    log w = 1/4 sum over n = 1..4 of the mean of log f(g) over the caption's n-grams g. f counts how often g occurs in
    all captions. An n-gram with an unknown word has f = 1, and so has n where the caption is shorter.

    Args:
        ids: [T] token ids; each caption is a style token, its words and an end token.
        start: [C + 1] where each caption begins.
        first_word: the lowest id of a word.

    Returns:
        [C] float64.
    """
    lengths = np.diff(start) - 2
    owner = np.repeat(np.arange(len(lengths)), np.diff(start))
    is_word = np.append(ids >= first_word, np.zeros(ORDERS, bool))  # the end token parts the captions' n-grams
    places = np.flatnonzero(is_word)
    grams = ids[places].astype(np.int64)
    total = np.zeros(len(lengths))
    for order in range(ORDERS):
        if order:
            inside = is_word[places + order]
            places, grams = places[inside], grams[inside]
            grams = grams << SHIFT | ids[places + order]
        _, grams, counts = np.unique(grams, return_inverse=True, return_counts=True)
        sums = np.bincount(owner[places], weights=np.log(counts)[grams], minlength=len(lengths))
        total += sums / np.maximum(lengths - order, 1)
    return np.exp(total / ORDERS)


def weighted_order(noise: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sort keys whose ascending order draws without replacement by weight (Efraimidis and Spirakis 2006).

    Args:
        noise: uniform uint64.
        weights: above 0, of its shape.
    """
    uniform = np.minimum(noise.astype(np.float64) / 2.0**64, 1 - 2.0**-53)
    return -np.log1p(-uniform) / weights
