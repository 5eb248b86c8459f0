"""Every score of a table of photos, with intervals: what epochs log, evaluate prints and submissions carry."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from src.metrics import bootstrap as resampling
from src.metrics import challenge
from src.metrics import correlation as quality
from src.metrics.bleu_rouge import (
    BleuCounts,
    bleu_counts,
    bleu_from_counts,
    bleu_values,
    rouge_1_per_image,
    rouge_l_per_image,
)
from src.metrics.cider import cider_d_per_image
from src.metrics.meteor import Meteor
from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.ptb_tokenizer import tokenize

MEANS = ("rouge_l", "cider_d", "rouge_1_mean", "rouge_1_best")
BLEUS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
VARIETY = ("distinct_captions", "distinct_share", "vocabulary_used")
HIGHER_IS_BETTER = {  # scores of which more is better, by the head that they are of
    "mos": ("quality", "plcc", "srcc", "krcc"),
    "decoder": ("captioning", *BLEUS, "meteor", *MEANS, *VARIETY),
}

ResampledScores = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Score:
    """A score and its 95 % interval, which is None where none was asked for or none makes sense."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass
class Scores:
    """What score_photos found.

    Attributes:
        scores: name -> score, in a fixed order; a score that cannot be computed is absent, never NaN.
        names: P photo names.
        per_photo: name -> [P], NaN where a photo has no such score. mos_error is predicted less true mos.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    per_photo: dict[str, np.ndarray] = field(default_factory=dict)


def score_images(
    names: Sequence[str],
    mos: np.ndarray | None = None,
    mos_true: np.ndarray | None = None,
    candidates: Sequence[str] | None = None,
    references: Sequence[Sequence[str]] | None = None,
    meteor: Meteor | None = None,
    intervals: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """All scores that a table of P photos allows, each over the photos that carry its label.

    plcc, srcc, krcc (two photos or more), rmse, quality; bleu_1 to bleu_4, meteor (where given), rouge_l, cider_d,
    rouge_1_mean, rouge_1_best, captioning (needs METEOR); combined (not where captions are scored without METEOR);
    distinct_captions, distinct_share (0..1) and vocabulary_used (words) of all candidates.

    Args:
        names: of the photos.
        mos: [P] predicted; NaN throughout without a mos head.
        mos_true: [P] NaN where unknown.
        candidates: P generated captions; all empty without a decoder.
        references: P lists, empty where unknown.
        meteor: its process; without one, meteor and captioning are left out.
        intervals: bootstrap over photos; costs about a second for 10,000 photos.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: columns of unequal length, or some but not all predicted mos are not finite.
        UserError: METEOR is asked for and cannot run.
    """
    return measure(names, mos, mos_true, candidates, references, meteor, intervals, resamples, seed)[0]


def measure(
    names: Sequence[str],
    mos: np.ndarray | None = None,
    mos_true: np.ndarray | None = None,
    candidates: Sequence[str] | None = None,
    references: Sequence[Sequence[str]] | None = None,
    meteor: Meteor | None = None,
    intervals: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Scores, ResampledScores]:
    """As score_photos, and also what gives all scores of any choice of the photos.

    Returns:
        The scores, and a function from how often each photo is drawn, [B, P], to name -> [B]; see intervals.py for
        what it takes as it is in the whole table: CIDEr-D's document frequencies above all.
    """
    report = Scores(names=list(names))
    nothing = np.full(len(names), np.nan)
    mos, true = (nothing if x is None else np.asarray(x, dtype=np.float64) for x in (mos, mos_true))
    words = list(candidates) if candidates is not None else [""] * len(names)
    refs = references if references is not None else [[]] * len(names)
    _check_lengths(len(names), mos=mos, mos_true=true, candidates=words, references=refs)
    drawn = [_score_mos(report, mos, true), _score_captions(report, words, refs, meteor)]
    _score_both(report.scores)
    draw = _together(report, [d for d in drawn if d])
    if intervals and names and any(drawn):
        _add_intervals(report, draw, resamples, seed)
    return report, draw


def _check_lengths(photos: int, **columns: Sequence | np.ndarray) -> None:
    for name, column in columns.items():
        if len(column) != photos:
            raise ValueError(f"{photos} photos but {len(column)} {name}")


def _score_mos(report: Scores, mos: np.ndarray, true: np.ndarray) -> ResampledScores | None:
    """Adds the mos scores; returns how to compute them from drawing counts."""
    rows = np.flatnonzero(np.isfinite(true))
    if not len(rows) or not np.isfinite(mos[rows]).any():
        return None
    lost = rows[~np.isfinite(mos[rows])]
    if len(lost):
        raise ValueError(
            f"{len(lost)} of {len(rows)} photos have no finite predicted mos, first: {report.names[lost[0]]}"
        )
    x, y = mos[rows], true[rows]
    values = {"plcc": quality.plcc(x, y), "srcc": quality.srcc(x, y), "krcc": quality.krcc(x, y)} if len(x) > 1 else {}
    values["rmse"] = quality.rmse(x, y)
    report.scores.update({name: Score(value) for name, value in values.items()})
    _spread(report, "mos_error", rows, x - y)
    return _mos_draws(rows, x, y)


def _mos_draws(rows: np.ndarray, x: np.ndarray, y: np.ndarray) -> ResampledScores:
    terms = resampling.kendall_terms(x, y)

    def draw(weights: np.ndarray) -> dict[str, np.ndarray]:
        w = weights[:, rows]
        return {
            "plcc": resampling.resampled_plcc(w, x, y),
            "srcc": resampling.resampled_srcc(w, x, y),
            "krcc": resampling.resampled_krcc(w, terms),
            "rmse": np.sqrt(resampling.resampled_means(w, (x - y) ** 2)),
        }

    return draw


def _score_captions(
    report: Scores, candidates: list[str], references: Sequence[Sequence[str]], meteor: Meteor | None
) -> ResampledScores | None:
    """Adds the captions' scores; returns how to compute them from drawing counts."""
    if not any(candidates):
        return None
    _score_variety(report, tokenize([words for words in candidates if words]))
    rows = [i for i, captions in enumerate(references) if len(captions)]
    if not rows:
        return None
    corpus = Corpus([candidates[i] for i in rows], [references[i] for i in rows])
    return _score_corpus(report, np.array(rows), corpus, meteor)


def _score_corpus(report: Scores, rows: np.ndarray, corpus: Corpus, meteor: Meteor | None) -> ResampledScores:
    counts, means = _count(corpus)
    bleu, bleu_photos = bleu_from_counts(counts)
    for i, name in enumerate(BLEUS):
        report.scores[name] = Score(float(bleu[i]))
        _spread(report, name, rows, bleu_photos[:, i])
    table: dict[str, np.ndarray] = {}
    shift = 0.0
    if meteor:
        whole, table["meteor"] = meteor.score(corpus.candidates, corpus.references, tokenized=True)
        report.scores["meteor"] = Score(whole)
        shift = whole - float(table["meteor"].mean())
    table |= means
    for name, values in table.items():
        report.scores.setdefault(name, Score(float(values.mean())))
        _spread(report, name, rows, values)
    return _caption_draws(rows, counts, table, shift)


def _count(corpus: Corpus) -> tuple[BleuCounts, dict[str, np.ndarray]]:
    """What BLEU is made of, and the scores that are means over photos, part by part: memory does not grow with them."""
    frequencies = DocumentFrequencies(corpus.references)
    counts, means = [], []
    for part in corpus.parts():
        counts.append(bleu_counts(part))
        means.append((rouge_l_per_image(part), cider_d_per_image(part, frequencies), *rouge_1_per_image(part)))
    whole = BleuCounts(**{name: np.concatenate([vars(one)[name] for one in counts]) for name in vars(counts[0])})
    return whole, dict(zip(MEANS, map(np.concatenate, zip(*means, strict=True)), strict=True))


def _caption_draws(
    rows: np.ndarray, counts: BleuCounts, table: Mapping[str, np.ndarray], shift: float
) -> ResampledScores:
    columns = np.column_stack([*table.values()]).astype(np.float64)
    sums = np.column_stack([counts.correct, counts.guess, counts.length, counts.reference]).astype(np.float64)

    def draw(weights: np.ndarray) -> dict[str, np.ndarray]:
        w = weights[:, rows]
        drawn = dict(zip(table, resampling.resampled_means(w, columns).T, strict=True))
        if "meteor" in drawn:
            drawn["meteor"] = drawn["meteor"] + shift
        s = w @ sums
        bleu = bleu_values(s[:, :4], s[:, 4:8], s[:, 8], s[:, 9])
        return drawn | dict(zip(BLEUS, bleu.T, strict=True))

    return draw


def _score_variety(report: Scores, words: list[str]) -> None:
    distinct = len(set(words))
    used = len({word for caption in words for word in caption.split()})
    values = (float(distinct), distinct / len(words), float(used))
    report.scores.update({name: Score(value) for name, value in zip(VARIETY, values, strict=True)})


def _score_both(scores: dict[str, Score]) -> None:
    values = {name: score.value for name, score in scores.items()}
    scores.update({name: Score(float(value)) for name, value in _challenge(values).items()})


def _challenge(values: Mapping[str, float] | Mapping[str, np.ndarray]) -> dict[str, float | np.ndarray]:
    """The challenge's scores that these scores allow: quality, captioning, combined."""
    found: dict[str, float | np.ndarray] = {}
    if "plcc" in values:
        found["quality"] = challenge.quality_score(values["plcc"], values["srcc"])
    if "meteor" in values:
        parts = (values[name] for name in ("cider_d", "meteor", "bleu_3", "bleu_4", "rouge_l"))
        found["captioning"] = challenge.captioning_score(*parts)
    if found and ("captioning" in found or "cider_d" not in values):
        found["combined"] = challenge.combined_score(found.get("quality"), found.get("captioning"))
    return found


def _together(report: Scores, drawn: list[ResampledScores]) -> ResampledScores:
    def draw(weights: np.ndarray) -> dict[str, np.ndarray]:
        values = {name: value for part in drawn for name, value in part(weights).items() if name in report.scores}
        return values | _challenge(values)  # type: ignore[return-value]

    return draw


def _add_intervals(report: Scores, draw: ResampledScores, resamples: int, seed: int) -> None:
    for name, values in resampling.bootstrap(draw, len(report.names), resamples, seed).items():
        low, high = resampling.percentile_interval(values)
        if np.isfinite(low):
            report.scores[name] = Score(report.scores[name].value, low, high)


def _spread(report: Scores, name: str, rows: np.ndarray, values: np.ndarray) -> None:
    whole = np.full(len(report.names), np.nan)
    whole[rows] = values
    report.per_photo[name] = whole
