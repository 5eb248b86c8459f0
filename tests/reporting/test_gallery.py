"""The choice of example images."""

import numpy as np
import pytest

from src.reporting.gallery import pick_examples


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 17, 18, 100])
def test_best_median_and_worst_are_different_photos(count: int) -> None:
    best, middle, worst = (one.tolist() for one in pick_examples(np.arange(count)))
    shown = best + middle + worst
    assert len(shown) == len(set(shown)) >= min(count, 3)
    assert best == list(range(len(best)))
    assert worst == list(range(count))[::-1][: len(worst)]
    if count == 100:
        assert middle == [47, 48, 49, 50, 51, 52]
