"""The challenge's formulas on numbers worked out by hand."""

import pytest

from src.metrics import challenge


def test_quality_clips_each_correlation() -> None:
    assert challenge.quality_score(0.8, 0.7) == pytest.approx(0.75)
    assert challenge.quality_score(-0.4, 0.6) == pytest.approx(0.3)
    assert challenge.quality_score(-1.0, -1.0) == 0.0


def test_captioning_is_the_plain_weighted_sum() -> None:
    value = challenge.captioning_score(cider_d=0.15, meteor=0.12, bleu_3=0.1, bleu_4=0.04, rouge_l=0.25)
    assert value == pytest.approx(0.6 + 0.36 + 0.14 + 0.25)


def test_combined_is_relative_to_the_6th_place() -> None:
    assert challenge.combined_score(0.7874, 1.35946) == pytest.approx(2.0)
    assert challenge.combined_score(quality=0.7874) == pytest.approx(1.0)
    assert challenge.combined_score(captioning=1.35946 / 2) == pytest.approx(0.5)
    assert challenge.combined_score() == 0.0
