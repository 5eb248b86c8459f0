"""The table of scores: names, missing labels, single photos, intervals."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider

from src.metrics import correlation as quality
from src.metrics.base import Scores
from src.metrics.bleu import bleu
from src.metrics.cider import cider_d
from src.metrics.compute import score_images
from src.metrics.rouge import rouge_1, rouge_l
from tests.metrics.reference import captions, scored

NAN = float("nan")


class FixedMeteor:
    """Stands for METEOR where only what is made of its numbers is tested."""

    def score(self, candidates: list[str], references: list[list[str]], tokenized: bool = False) -> tuple:
        photos = np.linspace(0.1, 0.3, len(candidates))
        return 0.25, photos


def table(photos: int = 80, intervals: bool = False, meteor: object = None) -> Scores:
    rng = np.random.default_rng(0)
    true = rng.normal(5, 1, photos)
    mos = true + rng.normal(0, 0.5, photos)
    candidates, references = captions(photos)
    true[::4] = NAN  # photos of a caption data set
    references[1::4] = [[]] * len(references[1::4])  # and of a mos data set
    names = [f"{i:04d}" for i in range(photos)]
    return score_images(names, mos, true, candidates, references, meteor, intervals, resamples=300)  # type: ignore[arg-type]


def test_each_score_is_over_the_photos_that_carry_its_label() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(5, 1, 80)
    mos = true + rng.normal(0, 0.5, 80)
    candidates, references = captions(80)
    rated, told = [i for i in range(80) if i % 4], [i for i in range(80) if i % 4 != 1]
    pairs = [candidates[i] for i in told], [references[i] for i in told]
    found = {name: score.value for name, score in table().scores.items()}
    expected = {
        "plcc": quality.plcc(mos[rated], true[rated]),
        "srcc": quality.srcc(mos[rated], true[rated]),
        "krcc": quality.krcc(mos[rated], true[rated]),
        "rmse": quality.rmse(mos[rated], true[rated]),
        **{f"bleu_{n + 1}": value for n, value in enumerate(bleu(*pairs)[0])},
        "rouge_l": rouge_l(*pairs)[0],
        "cider_d": cider_d(*pairs)[0],
        "rouge_1_mean": rouge_1(*pairs)[0].mean(),
        "rouge_1_best": rouge_1(*pairs)[1].mean(),
        "distinct_captions": len(set(candidates)),
        "distinct_share": len(set(candidates)) / 80,
        "vocabulary_used": len({word for caption in candidates for word in caption.split()}),
    }
    expected["quality"] = (expected["plcc"] + expected["srcc"]) / 2
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_table_of_several_parts_scores_as_pycocoevalcap() -> None:
    photos = 5001
    candidates, references = captions(photos, per_photo=3)
    found = score_images([str(i) for i in range(photos)], candidates=candidates, references=references)
    bleus = scored(Bleu(4), candidates, references, verbose=0)[1]
    for order in range(4):
        np.testing.assert_allclose(found.per_image[f"bleu_{order + 1}"], bleus[:, order], rtol=0, atol=1e-9)
    cider = scored(Cider(), candidates, references)[1]
    np.testing.assert_allclose(found.per_image["cider_d"], cider, rtol=0, atol=1e-9)


def test_challenge_scores_need_meteor() -> None:
    without, scored = table().scores, table(meteor=FixedMeteor()).scores
    assert not {"meteor", "captioning", "combined"} & set(without)
    v = {name: score.value for name, score in scored.items()}
    assert v["meteor"] == 0.25
    assert v["captioning"] == pytest.approx(4 * v["cider_d"] + 0.75 + v["bleu_3"] + v["bleu_4"] + v["rouge_l"])
    assert v["combined"] == pytest.approx(v["quality"] / 0.7874 + v["captioning"] / 1.35946)


def test_intervals_hold_the_score() -> None:
    plain, scored = table(meteor=FixedMeteor()), table(meteor=FixedMeteor(), intervals=True)
    assert list(plain.scores) == list(scored.scores)
    for name, score in scored.scores.items():
        assert plain.scores[name].value == score.value
        assert plain.scores[name].low is None
        if name in ("distinct_captions", "distinct_share", "vocabulary_used"):
            assert score.low is None
        else:
            assert score.low < score.value < score.high, name
    assert scored.scores == table(meteor=FixedMeteor(), intervals=True).scores


def test_bleu_interval_is_that_of_resampled_captions() -> None:
    candidates, references = captions(40)
    names = [str(i) for i in range(40)]
    ours = score_images(names, candidates=candidates, references=references, intervals=True, resamples=1000).scores[
        "bleu_4"
    ]
    rng = np.random.default_rng(5)
    picks = [rng.integers(0, 40, 40) for _ in range(1000)]
    plain = [bleu([candidates[i] for i in p], [references[i] for i in p], tokenized=True)[0][3] for p in picks]
    low, high = np.quantile(plain, [0.025, 0.975])
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.2 * (high - low))


def test_per_photo_scores_are_nan_where_unknown() -> None:
    scored = table()
    assert np.isnan(scored.per_image["mos_error"][::4]).all()
    assert np.isfinite(scored.per_image["mos_error"][1::4]).all()
    assert np.isnan(scored.per_image["cider_d"][1::4]).all()
    assert np.isfinite(scored.per_image["bleu_4"][::4]).all()


@pytest.mark.parametrize("photos", [0, 1, 2, 3])
@pytest.mark.parametrize("caption", ["", ".", "a dog"])
@pytest.mark.parametrize("intervals", [False, True])
def test_few_photos_give_finite_scores_or_none(photos: int, caption: str, intervals: bool) -> None:
    names = [str(i) for i in range(photos)]
    mos = np.full(photos, 5.0)
    for true in (mos, np.arange(photos) + 1.0, np.full(photos, NAN)):
        for refs in ([["a dog runs"]] * photos, [[""]] * photos, [[]] * photos):
            scores = score_images(names, mos, true, [caption] * photos, refs, FixedMeteor(), intervals).scores  # type: ignore[arg-type]
            assert all(math.isfinite(x) for score in scores.values() for x in astuple(score) if x is not None)
            assert photos > 1 or "plcc" not in scores


def test_one_task_alone() -> None:
    mos = np.array([4.0, 5.0, 6.5])
    rated = score_images(["a", "b", "c"], mos, mos + 1).scores
    assert list(rated) == ["plcc", "srcc", "krcc", "rmse", "quality", "combined"]
    assert rated["combined"].value == pytest.approx(1 / 0.7874)
    told = score_images(["a", "b"], candidates=["a dog", "cat"], references=[["a dog"], ["cats"]]).scores
    assert "quality" not in told
    assert told["bleu_1"].value == pytest.approx(2 / 3)


def test_bad_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="2 photos but 1 mos"):
        score_images(["a", "b"], np.array([1.0]))
    with pytest.raises(ValueError, match="2 photos but 3 candidates"):
        score_images(["a", "b"], candidates=["x", "y", "z"])
    with pytest.raises(ValueError, match="1 of 2 photos .* b"):
        score_images(["a", "b"], np.array([1.0, NAN]), np.array([1.0, 2.0]))
