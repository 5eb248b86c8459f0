"""Scores of groups against those of tables of their own."""

import numpy as np
import pytest

from src.metrics.compute import score_images
from src.metrics.subgroups import deciles, score_groups

RNG = np.random.default_rng(0)
PHOTOS = 200
TRUE = RNG.normal(5.5, 0.8, PHOTOS)
NAMES = [str(i) for i in range(PHOTOS)]
GOOD, BAD = (TRUE + RNG.normal(0, noise, PHOTOS) for noise in (0.3, 1.5))


def test_groups_are_scored_as_tables_of_their_own() -> None:
    groups = deciles(np.append(TRUE, np.nan))
    assert sorted(np.concatenate(list(groups.values()))) == list(range(PHOTOS))
    assert [len(rows) for rows in groups.values()] == [20] * 10
    scores = score_images(NAMES, BAD, TRUE)
    found = score_groups(scores, groups)
    last = 0.0
    for name, rows in groups.items():
        alone = score_images([NAMES[i] for i in rows], BAD[rows], TRUE[rows], intervals=True).scores
        for score in ("plcc", "srcc", "rmse", "quality"):
            assert found[name][score].value == pytest.approx(alone[score].value)
            assert found[name][score].low == pytest.approx(alone[score].low, abs=0.1)
        assert found[name]["bias"].value == pytest.approx(np.mean(BAD[rows] - TRUE[rows]))
        assert TRUE[rows].mean() > last
        last = TRUE[rows].mean()


def test_a_group_without_labels_has_no_scores_but_its_size() -> None:
    true = np.where(np.arange(PHOTOS) < 100, TRUE, np.nan)
    scores = score_images(NAMES, GOOD, true, ["a cat"] * PHOTOS, [["a cat"]] * 100 + [[]] * 100)
    found = score_groups(scores, {"labelled": np.arange(100), "not": np.arange(100, 200)}, resamples=20)
    assert set(found["not"]) == {"photos"}
    assert found["labelled"]["bleu_1"].value == pytest.approx(1.0)
