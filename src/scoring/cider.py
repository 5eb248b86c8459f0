"""CIDEr-D as pycocoevalcap's Cider computes it (Vedantam et al. 2015, https://arxiv.org/abs/1411.5726)."""

from collections.abc import Sequence

import numpy as np

from src.scoring.ngrams import ORDERS, Counts, Grams, Index
from src.scoring.ptb import tokenize

SIGMA = 6.0


class CiderD:
    """Scores captions of photos whose references, with their document frequencies, are counted once.

    A score lies in 0..10. With a single photo every n-gram is in every document, its weight is 0, and so is the score.

    Args:
        references: one to many captions a photo.
        names: the photos' names, where `score` is to find them by name; else they are numbered from 0.
        tokenized: the references are PTB tokens joined by spaces already.

    Raises:
        ValueError: no photo, a photo without reference, or unequal numbers of names and photos.
    """

    def __init__(
        self,
        references: Sequence[Sequence[str]],
        names: Sequence[str] | None = None,
        tokenized: bool = False,
    ) -> None:
        owner, flat = flatten(references)
        if names is not None and len(names) != len(references):
            raise ValueError(f"{len(names)} names but {len(references)} photos with references")
        self.rows = {name: row for row, name in enumerate(names)} if names is not None else None
        self.many = np.bincount(owner, minlength=len(references))
        self._weigh(Grams(flat if tokenized else tokenize(flat)), owner)

    @classmethod
    def from_grams(cls, grams: Grams, owner: np.ndarray) -> "CiderD":
        """From references that are counted already; `owner` [C] is each reference's photo."""
        cider = cls.__new__(cls)
        cider.rows, cider.many = None, np.bincount(owner)
        cider._weigh(grams, owner)
        return cider

    def _weigh(self, grams: Grams, owner: np.ndarray) -> None:
        self.grams = grams
        self.log_photos = float(np.log(len(self.many)))
        self.length = _bigrams(grams.lengths)
        self.idf, self.vector, self.norm, self.index, self.row = [], [], [], [], []
        for counts in grams.counts:
            index = Index(owner[counts.row], counts.gram)
            self.idf.append(self.log_photos - np.log(index.photos()))
            vector, norm = self._vectors(counts, len(owner))
            self.vector.append(vector)
            self.norm.append(norm)
            self.index.append(index)
            self.row.append(counts.row)

    def score(
        self, photos: Sequence[int] | Sequence[str] | np.ndarray, candidates: Sequence[str], tokenized: bool = False
    ) -> np.ndarray:
        """CIDEr-D of each candidate against its photo's references: [C] in 0..10. A photo may come several times.

        Raises:
            ValueError: unequal numbers of photos and candidates.
            KeyError, IndexError: a photo that has no references here.
        """
        if len(photos) != len(candidates):
            raise ValueError(f"{len(photos)} photos but {len(candidates)} candidates")
        counts, lengths = self.grams.count(candidates if tokenized else tokenize(candidates))
        return self.score_counts(self._photo_rows(photos), counts, lengths)

    def score_counts(self, photo: np.ndarray, counts: list[Counts], lengths: np.ndarray) -> np.ndarray:
        """As `score`, of candidates [C] that are counted already."""
        total = np.zeros(len(photo))
        length = _bigrams(lengths)
        for order, table in enumerate(counts):
            vector, norm = self._vectors(table, len(photo), order)
            entry, match = self.index[order].join(photo[table.row], table.gram)
            candidate, reference = table.row[entry], self.row[order][match]
            weight = self.vector[order][match]
            product = np.minimum(vector[entry], weight) * weight
            norms = norm[candidate] * self.norm[order][reference]
            gap = length[candidate] - self.length[reference]
            value = product / np.where(norms > 0, norms, 1.0) * np.exp(-(gap**2) / (2 * SIGMA**2))
            total += np.bincount(candidate, weights=value, minlength=len(photo))
        return 10.0 * total / (ORDERS * self.many[photo])

    def _photo_rows(self, photos: Sequence[int] | Sequence[str] | np.ndarray) -> np.ndarray:
        if self.rows is not None:
            return np.array([self.rows[str(photo)] for photo in photos], dtype=np.int64)
        rows = np.asarray(photos, dtype=np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self.many)):
            raise IndexError(f"photos are numbered 0 to {len(self.many) - 1}; got {rows.min()} to {rows.max()}")
        return rows

    def _vectors(self, counts: Counts, captions: int, order: int = -1) -> tuple[np.ndarray, np.ndarray]:
        """Weights tf * idf [E] and their norms [C]; an n-gram in no reference counts as one in a single photo."""
        idf = self.idf[order]
        known = counts.gram < len(idf)
        weight = np.full(len(counts.gram), self.log_photos)
        weight[known] = idf[counts.gram[known]]
        vector = counts.count * weight
        return vector, np.sqrt(np.bincount(counts.row, weights=vector**2, minlength=captions))


def flatten(references: Sequence[Sequence[str]]) -> tuple[np.ndarray, list[str]]:
    """All references one after the other, and the photo [C] of each.

    Raises:
        ValueError: no photo, or a photo without reference.
    """
    many = np.array([len(captions) for captions in references], dtype=np.int64)
    if not len(many):
        raise ValueError("no photos to score")
    if not many.all():
        raise ValueError(f"photo {int(np.argmin(many))} (from 0) has no reference captions: leave it out of the scores")
    return np.repeat(np.arange(len(many)), many), [caption for captions in references for caption in captions]


def _bigrams(lengths: np.ndarray) -> np.ndarray:
    # The reference implementation's length counts bigrams, not words.
    return np.maximum(lengths - 1, 0)
