"""Captions in doubt, planted among good ones; the fit of a caption against CIDEr-D itself."""

from pathlib import Path

import numpy as np
import pytest

from src.data.sample import Sample
from src.evaluation.caption_audit import CaptionIndex, empty_captions, misfit_captions
from src.metrics.caption_pairs import CaptionPairs
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.ptb_tokenizer import tokenize

DOG, BOAT = ("dog", "grass", "runs"), ("boat", "lake", "floats")


def scenes(count: int) -> list[Sample]:
    """Photos with three captions each: every fourth is of a boat, the others of dogs."""
    samples = []
    for i in range(count):
        who, where, does = BOAT if i % 4 == 3 else DOG
        texts = (f"a {who} {does} on the {where}", f"one {who} {does} near a {where}", f"the {who} on the {where} {i}")
        samples.append(Sample(Path(f"{i}.jpg"), str(i), "s", None, texts))
    return samples


def kin(count: int) -> np.ndarray:
    """Five other photos of the same kind."""
    return np.array([[(i + 4 * j) % count for j in range(1, 6)] for i in range(count)])


def test_a_caption_that_most_photos_fit_better_is_named_with_a_photo_that_fits() -> None:
    samples = scenes(80)
    for boat in (3, 43, 75):
        captions = (samples[boat + 1].captions[1], *samples[boat].captions[1:])
        samples[boat] = Sample(samples[boat].path, samples[boat].name, "s", None, captions)
    findings = misfit_captions(samples, kin(80))
    assert [(finding.row, finding.caption) for finding in findings] == [
        (boat, "one dog runs near a grass") for boat in (3, 43, 75)
    ]
    assert all(0.5 < finding.score < 0.9 and finding.other % 4 != 3 for finding in findings)


def test_few_photos_are_not_compared() -> None:
    assert misfit_captions(scenes(40), kin(40)) == []


def test_a_fit_is_the_mean_cider_d_with_the_captions_around() -> None:
    samples = scenes(12)
    captions = [tokenize(sample.captions) for sample in samples]
    index = CaptionIndex(captions, np.arange(12), np.array([[4, -1]] * 12))
    pairs = CaptionPairs([text for texts in captions for text in texts], DocumentFrequencies(captions))
    around = [0, 1, 2, 12, 13, 14]
    # Photos 0 and 4 have the same two first captions, which count for neither of them.
    rest = {0: [1, 2, 13, 14], 1: [0, 2, 12, 14], 2: [0, 1, 12, 13, 14]}
    expected = [
        np.mean([pairs.cider_d(np.array([a]), np.array([b]))[0, 0] for b in others]) for a, others in rest.items()
    ]
    np.testing.assert_allclose(index.fits(np.arange(3), np.array([0]))[:, 0], expected)
    fit = np.mean([pairs.cider_d(np.array([11]), np.array([b]))[0, 0] for b in around])
    assert index.fits(np.array([11]), np.array([5, 0]))[0, 1] == pytest.approx(fit)


def test_captions_that_say_nothing() -> None:
    texts = ("Nice photo!", "This is a very beautiful picture.", "...", "a dog", "a dull grey sky", "it is blurred")
    findings = empty_captions([Sample(Path("x"), "x", "s", None, ()), Sample(Path("y"), "y", "s", None, texts)], 3)
    assert [(finding.row, finding.caption, finding.score) for finding in findings] == [
        (1, texts[0], 0), (1, texts[1], 0), (1, texts[2], 0), (1, texts[3], 1),
    ]  # fmt: skip
