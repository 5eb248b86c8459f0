"""One model against another on the same photos: differences of scores with 95 % intervals of a paired bootstrap."""

import numpy as np

from src.metrics import bootstrap as intervals
from src.metrics.compute import ResampledScores, Score, Scores

OF_TASKS = ("quality", "captioning")  # what `combined` adds up


def paired_differences(
    ours: tuple[Scores, ResampledScores], theirs: tuple[Scores, ResampledScores], resamples: int = 1000, seed: int = 0
) -> dict[str, Score]:
    """Our score less theirs, for each score that both have; each resample is of the same photos for both.

    `combined` is left out where one side has a task that the other lacks: it is a sum of more on that side.

    Args:
        ours: scores and draw of compute.measure.
        theirs: likewise, of the same photos in the same order.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    (a, draw_a), (b, draw_b) = ours, theirs

    def draw(weights: np.ndarray) -> dict[str, np.ndarray]:
        x, y = draw_a(weights), draw_b(weights)
        return {name: x[name] - y[name] for name in x if name in y}

    drawn = intervals.bootstrap(draw, len(a.names), resamples, seed)
    found = {}
    for name in shared_scores(a, b):
        bounds = intervals.percentile_interval(drawn[name]) if name in drawn else (None, None)
        found[name] = Score(a.scores[name].value - b.scores[name].value, *bounds)
    return found


def shared_scores(a: Scores, b: Scores) -> list[str]:
    """The scores that both have and that mean the same for both."""
    tasks = [{name for name in OF_TASKS if name in one.scores} for one in (a, b)]
    names = [name for name in a.scores if name in b.scores]
    return names if tasks[0] == tasks[1] else [name for name in names if name != "combined"]
