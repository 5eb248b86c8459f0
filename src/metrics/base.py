"""What a metric is: the classes that a file of this folder fills in, and the tables that metrics are computed from.

A metric is a file of src/metrics, or of metrics/ in a folder of SRC_PLUGINS, that defines METRICS, a list of the
classes below; the other files here (compute, bootstrap, subgroups, leaderboard) define none, and text/ holds what
metrics share. The shortest one gives a number an image:

    METRICS = [ImageMetric(scores=[ScoreInfo("words")], head="captions", per_image=count_words)]

Its score is the images' mean, with a bootstrap interval, wherever scores are: evaluate, train's epochs (val/words),
train.select, report.

Notation: P images, B resamples in a block, S scores of a metric, T terms that add up over images.
Held by tests/metrics/test_metric_plugins.py and test_compute.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies

Head = Literal["mos", "captions", "any"]
Number = float | np.ndarray
ResampledScores = Callable[[np.ndarray], dict[str, np.ndarray]]
"""How often each image is drawn, [B, P] -> name -> [B] values of all scores."""


@dataclass(frozen=True)
class Score:
    """A score and its 95 % interval, which is None where none was computed or none makes sense."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass
class Scores:
    """All scores of a table of images.

    Attributes:
        scores: name -> score, in a fixed order; a score that cannot be computed is absent, never NaN.
        names: P image names.
        per_image: name -> [P], NaN where an image has no such score. mos_error is predicted less true mos.
        resample: the scores of any choice of the images; bootstrap.py says what stays that of the whole table:
            CIDEr-D's document frequencies above all.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    per_image: dict[str, np.ndarray] = field(default_factory=dict)
    resample: ResampledScores = field(default=lambda weights: {}, repr=False, compare=False)


@dataclass(frozen=True)
class ScoreInfo:
    """What the rest must know of a score."""

    name: str  # in tables, JSON and MLflow
    higher_is_better: bool = True  # only such a score can select the best epoch
    headline: bool = False  # it has bars in reports, columns in MLflow's views and a place on the page
    compact: bool = False  # it is one of the few in tables with many columns, such as the one by tenths of mos
    whole_only: bool = False  # it cannot be computed for a part of the images from the whole table


@dataclass(frozen=True)
class MosTable:
    """Predicted and true mos of P images, [P] each, all finite."""

    predicted: np.ndarray
    true: np.ndarray

    def parts(self) -> Iterator["MosTable"]:
        """The table itself: numbers need little memory."""
        yield self


class CaptionTable:
    """P images with a generated caption and references; empty lists of these where a metric needs none.

    Args:
        candidates: P captions as written.
        references: P lists of captions as written.
        corpus: both tokenised and counted; None: it is made when a metric needs it.
        frequencies: of n-grams in the references of the whole table; None: likewise.
        meteor: METEOR's process, a metrics.meteor.Meteor; None: METEOR is left out.
        paths: P image files, for metrics that look at the images.
    """

    def __init__(
        self,
        candidates: Sequence[str],
        references: Sequence[Sequence[str]],
        corpus: Corpus | None = None,
        frequencies: DocumentFrequencies | None = None,
        meteor: Any = None,
        paths: Sequence[Path] = (),
    ) -> None:
        self.candidates, self.references, self.meteor, self.paths = candidates, references, meteor, paths
        if corpus is not None:
            self.corpus = corpus
        if frequencies is not None:
            self.frequencies = frequencies

    def __len__(self) -> int:
        return len(self.candidates)

    @cached_property
    def corpus(self) -> Corpus:
        """The captions as PTB tokens, with their n-grams."""
        return Corpus(self.candidates, self.references)

    @cached_property
    def frequencies(self) -> DocumentFrequencies:
        """In how many images' references each n-gram is."""
        return DocumentFrequencies(self.corpus.references)

    def parts(self) -> Iterator["CaptionTable"]:
        """The same images, some at a time, with the whole table's frequencies: memory does not grow with the table."""
        start = 0
        for corpus in self.corpus.parts():
            rows = slice(start, start + len(corpus))
            yield CaptionTable(self.candidates[rows], self.references[rows], corpus, self.frequencies)
            start += len(corpus)


@dataclass
class MetricResult:
    """What a metric gives for a table.

    Attributes:
        values: name -> score of the whole table.
        per_image: name -> [P].
        resample: drawing counts [B, P] -> name -> [B]; None: a score with values per image is resampled as their mean,
            shifted to the score, and the others have no interval.
    """

    values: dict[str, float] = field(default_factory=dict)
    per_image: dict[str, np.ndarray] = field(default_factory=dict)
    resample: ResampledScores | None = None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One way to score, with one score or several."""

    scores: Sequence[ScoreInfo]  # in the order of tables
    head: Head  # whose predictions it scores; any: of either head
    order: int = 100  # its place in tables, lowest first
    needs_references: bool = True  # captions without references are left out

    @property
    def names(self) -> list[str]:
        """The names of its scores."""
        return [score.name for score in self.scores]


@dataclass(frozen=True, kw_only=True)
class ImageMetric(Metric):
    """A mean over images."""

    per_image: Callable[[Any], Any]  # MosTable or CaptionTable, large ones in parts -> [P], or a tuple: [P] a score

    def count(self, table: Any) -> np.ndarray:
        """Values [P, S] of a part of a table."""
        values = self.per_image(table)
        columns = values if isinstance(values, tuple) else (values,)
        return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])

    def result(self, counts: np.ndarray) -> MetricResult:
        """From values [P, S] of the whole table."""
        per_image = {name: np.ascontiguousarray(column) for name, column in zip(self.names, counts.T, strict=True)}
        return MetricResult({name: float(column.mean()) for name, column in per_image.items()}, per_image)


@dataclass(frozen=True, kw_only=True)
class SumMetric(Metric):
    """A function of sums over images; of a single image's terms it is that image's score."""

    terms: Callable[[Any], np.ndarray]  # MosTable or CaptionTable, large ones in parts -> [P, T]
    from_sums: Callable[[np.ndarray], np.ndarray]  # [.., T] -> [.., S]

    def count(self, table: Any) -> np.ndarray:
        """Terms [P, T] of a part of a table."""
        return self.terms(table)

    def result(self, counts: np.ndarray) -> MetricResult:
        """From terms [P, T] of the whole table."""
        total, per_image = self.from_sums(counts.sum(0)), self.from_sums(counts)
        terms = counts.astype(np.float64)

        def resample(weights: np.ndarray) -> dict[str, np.ndarray]:
            return dict(zip(self.names, self.from_sums(weights @ terms).T, strict=True))

        values = dict(zip(self.names, map(float, total), strict=True))
        return MetricResult(values, dict(zip(self.names, per_image.T, strict=True)), resample)


@dataclass(frozen=True, kw_only=True)
class TableMetric(Metric):
    """A score that needs the whole table at once; one that cannot be computed is absent from the result."""

    measure: Callable[[Any], MetricResult]  # of a MosTable or CaptionTable


@dataclass(frozen=True, kw_only=True)
class DerivedMetric(Metric):
    """A score made of other scores, in the whole table and in each resample; absent where they do not allow it."""

    derive: Callable[[Mapping[str, Any]], dict[str, Number]]  # scores of lower order by name -> this one by name


@dataclass(frozen=True)
class MetricOption:
    """The option of src.evaluate that switches a metric on."""

    name: str  # without the dashes
    type: type  # bool, or str for a model or file
    help: str
    check: Callable[[Any], object]  # raises UserError where the option's value cannot work


@dataclass(frozen=True, kw_only=True)
class OptionalMetric(Metric):
    """A mean over captioned images that needs a download, so only evaluate computes it, and only on demand."""

    option: MetricOption
    per_image: Callable[[CaptionTable, Any], np.ndarray]  # (table, the option's value) -> [P], NaN where unknown
