"""Our scores against pycocoevalcap's on synthetic captions, and what they cost as tables grow."""

import os
import random
import time
import tracemalloc
from collections.abc import Callable
from unittest.mock import patch

import numpy as np

from src.common.java import find_java
from src.metrics.bleu import bleu_from_sums, bleu_terms
from src.metrics.cider import cider_d_per_image
from src.metrics.compute import score_images
from src.metrics.rouge import rouge_l_per_image
from src.metrics.text import ptb_tokenizer as ptb
from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies

WORDS = 3000
Row = tuple[str, str, str]


def captions(photos: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Candidates and five references a photo: 6 to 16 words, as frequent as words are (Zipf), a stop at the end."""
    rng = random.Random(seed)
    words = ["".join(rng.choice("abcdefghilmnoprstu") for _ in range(rng.randint(2, 9))) for _ in range(WORDS)]
    weights = np.cumsum(1.0 / np.arange(1, WORDS + 1)).tolist()

    def one() -> str:
        return " ".join(rng.choices(words, cum_weights=weights, k=rng.randint(6, 16))).capitalize() + " ."

    references = [[one() for _ in range(5)] for _ in range(photos)]
    return [f"{one()[:-2]} {refs[0]}" if i % 2 else refs[1] for i, refs in enumerate(references)], references


def rows(photos: int = 1000) -> list[Row]:
    """What was measured, the seconds, the ratio (how many times faster ours is; or how cost grows with the table)."""
    return [*against_pycocoevalcap(photos), *growth()]


def against_pycocoevalcap(photos: int = 1000) -> list[Row]:
    """Each score, and all of them together, on the same captions; the first and only run of each."""
    candidates, references = captions(photos)
    tokens, java = _tokens(candidates, references)
    corpus = Corpus(candidates, references)
    ours = {
        "n-grams, shared": _seconds(lambda: corpus.matches),
        "BLEU-1..4": _seconds(lambda: bleu_from_sums(bleu_terms(corpus))),
        "ROUGE-L": _seconds(lambda: rouge_l_per_image(corpus)),
        "CIDEr-D": _seconds(lambda: cider_d_per_image(corpus, DocumentFrequencies(corpus.references))),
    }
    theirs = _pycocoevalcap(corpus.candidates, corpus.references)
    table = [("PTB tokens", tokens, java), *((name, ours[name], theirs.get(name)) for name in ours)]
    total, total_theirs = sum(row[1] for row in table), sum(row[2] or 0 for row in table)
    return [
        _row(f"{name}, {photos} photos x 5", a, b) for name, a, b in (*table, ("all of these", total, total_theirs))
    ]


def growth(sizes: tuple[int, ...] = (1_000, 10_000, 100_000)) -> list[Row]:
    """Seconds and peak memory of every score but METEOR, with intervals, as a multiple of the smaller table's."""
    table: list[Row] = []
    before = (0.0, 0.0)
    for size in sizes:
        spent = _cost(size)
        ratio = f"time x{spent[0] / before[0]:.1f}, memory x{spent[1] / before[1]:.1f}" if before[0] else ""
        table.append((f"scores with intervals, {size:,} photos", f"{spent[0]:.2f} s, {spent[1]:.0f} MB peak", ratio))
        before = spent
    return table


def _cost(photos: int) -> tuple[float, float]:
    candidates, references = captions(photos)
    rng = np.random.default_rng(0)
    true = rng.normal(5.5, 0.8, photos)
    mos = true + rng.normal(0, 0.5, photos)
    names = [str(i) for i in range(photos)]

    def score() -> None:
        score_images(names, mos, true, candidates, references, intervals=True, resamples=100)

    # The processor's time, not the clock's: the ratio must not depend on what else runs.
    start = time.process_time()
    score()
    seconds = time.process_time() - start
    # Measured apart: tracing makes everything several times slower.
    tracemalloc.start()
    score()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return seconds, peak


def _tokens(candidates: list[str], references: list[list[str]]) -> tuple[float, float | None]:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    flat = [*candidates, *(caption for refs in references for caption in refs)]
    ptb._word.cache_clear()
    ours = _seconds(lambda: ptb.tokenize(flat))
    java = find_java()
    if java is None:
        return ours, None
    listed = {i: [{"caption": caption}] for i, caption in enumerate(flat)}
    with patch.dict(os.environ, {"PATH": f"{java.parent}:{os.environ['PATH']}"}):
        return ours, _seconds(lambda: PTBTokenizer().tokenize(listed))


def _pycocoevalcap(candidates: list[str], references: list[list[str]]) -> dict[str, float]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    gts, res = dict(enumerate(references)), {i: [caption] for i, caption in enumerate(candidates)}
    return {
        "BLEU-1..4": _seconds(lambda: Bleu(4).compute_score(gts, res, verbose=0)),
        "ROUGE-L": _seconds(lambda: Rouge().compute_score(gts, res)),
        "CIDEr-D": _seconds(lambda: Cider().compute_score(gts, res)),
    }


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _row(what: str, ours: float, theirs: float | None) -> Row:
    if theirs is None:
        return what, f"{ours:.3f} s", ""
    return what, f"{ours:.3f} s against {theirs:.3f} s", f"{theirs / ours:.1f}x"
