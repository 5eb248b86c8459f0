"""Photos as bytes to answers, against the predict command and numpy."""

import struct
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import GifImagePlugin, Image

from src.common.errors import UserError
from src.config.schema import GenerationConfig
from src.inference.predict_options import PredictOptions
from src.inference.predictor import ImageLimits, Prediction, PredictionError, Predictor, image_note
from src.predict import main as predict
from tests.tiny import make_model, tiny_config, write_photo

BEAM = GenerationConfig(beam=3, max_length=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("run") / "model", mos_percentiles=[4.0, 5.0, 6.0, 8.0])


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return Predictor.load(model, ImageLimits(megabytes=1, megapixels=0.1))


def photo(seed: int = 0, size: int = 40) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return cv2.resize(blocks, (size, size), interpolation=cv2.INTER_NEAREST)


def encoded(format: str = "PNG", mode: str = "RGB", **options: object) -> bytes:
    out = BytesIO()
    Image.fromarray(photo()).convert(mode).save(out, format, **options)  # type: ignore[arg-type]
    return out.getvalue()


def only(predictor: Predictor, data: bytes, **changes: object) -> Prediction:
    found = predictor.predict_bytes([data], replace(PredictOptions(BEAM), **changes))[0]  # type: ignore[arg-type]
    assert isinstance(found, Prediction)
    return found


def test_answers_are_those_of_the_predict_command(model: Path, predictor: Predictor, elsewhere: Path) -> None:
    for seed in range(3):
        write_photo(elsewhere / "photos" / f"{seed}.jpg", seed)
    predict(["--model", str(model), "--data", "photos", "--output", "X.csv", "--generate.beam", "3"])
    rows = [line.split(",") for line in Path("X.csv").read_text().splitlines()[1:]]
    files = [(elsewhere / "photos" / f"{seed}.jpg").read_bytes() for seed in range(3)]
    generation = replace(predictor.description.config.generate, beam=3)
    for row, found in zip(rows, predictor.predict_bytes(files, PredictOptions(generation)), strict=True):
        assert isinstance(found, Prediction)
        assert found.mos == pytest.approx(float(row[1]), abs=1e-4)
        assert found.captions[0].text == row[2]


def test_the_beam_is_ranked_and_each_word_looked_somewhere(predictor: Predictor) -> None:
    found = only(predictor, encoded(), attention=True)
    assert len(found.captions) == BEAM.beam
    assert len({tuple(one.words) for one in found.captions}) == BEAM.beam
    scores = [one.score for one in found.captions]
    assert scores == sorted(scores, reverse=True)
    for caption in found.captions:
        assert caption.attention is not None
        assert len(caption.attention) == len(caption.words) + 1
        np.testing.assert_allclose(caption.attention.sum(axis=1), 1, atol=1e-5)
    assert found.seconds > 0


def test_where_mos_lies_among_the_training_photos(predictor: Predictor, model: Path, tmp_path: Path) -> None:
    assert predictor.place(5.5) == pytest.approx(0.5)  # thirds end at 4, 5, 6, 8
    assert predictor.place(7.0) == pytest.approx(5 / 6)
    assert (predictor.place(1.0), predictor.place(9.0)) == (0, 1)
    older = Predictor.load(make_model(tmp_path / "older"))
    assert only(older, encoded()).place is None


def test_one_bad_photo_among_good_ones(predictor: Predictor) -> None:
    whole = encoded("JPEG")
    bad = [b"", b"no photo", whole[: len(whole) // 2], encoded() + b"x" * 1_100_000]
    found = predictor.predict_bytes([whole, *bad, whole], PredictOptions(BEAM))
    assert isinstance(found[0], Prediction)
    assert isinstance(found[-1], Prediction)
    assert found[0].mos == pytest.approx(found[-1].mos)
    reasons = [one.reason for one in found if isinstance(one, PredictionError)]
    assert [any(word in reason for reason in reasons) for word in ("empty", "no photo", "truncated", "MB")] == [
        True
    ] * 4
    assert all("\n" not in reason for reason in reasons)


def test_a_bomb_is_refused_before_it_is_unpacked(predictor: Predictor) -> None:
    large = cv2.imencode(".png", np.zeros((400, 400, 3), np.uint8))[1].tobytes()
    palette = BytesIO()
    Image.new("P", (400, 400)).save(palette, "GIF")
    for data in (large, palette.getvalue()):
        (found,) = predictor.predict_bytes([data], PredictOptions(BEAM))
        assert isinstance(found, PredictionError)
        assert "0.1 million" in found.reason


def test_print_colours_and_animations_are_answered_with_a_note(predictor: Predictor) -> None:
    assert "CMYK" in only(predictor, encoded("JPEG", "CMYK")).note
    frames = [Image.fromarray(photo(seed)) for seed in range(2)]
    assert "first frame" in only(predictor, encoded("GIF", save_all=True, append_images=frames[1:])).note
    assert only(predictor, encoded()).note == ""


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG's chunk, with a wrong checksum."""
    return struct.pack(">I", len(data)) + kind + data + bytes(4)


def test_what_opencv_reads_and_pillow_does_not_is_answered_without_a_note(predictor: Predictor) -> None:
    png, jpeg = encoded(), encoded("JPEG")
    odd = [png[:33] + chunk(b"gAMA", bytes(4)) + png[33:], png[:33] + chunk(b"tEXt", b"a\0b") + png[33:]]
    odd.append(jpeg[:2] + b"\xff\xee\x00\x07Adobe" + jpeg[2:])
    for data in odd:
        with pytest.raises(Image.UnidentifiedImageError):
            Image.open(BytesIO(data))
        assert only(predictor, data).note == ""


def test_the_frames_of_an_animation_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    animation = encoded("GIF", save_all=True, append_images=[Image.fromarray(photo(1))])
    monkeypatch.delattr(GifImagePlugin.GifImageFile, "n_frames")  # a file of 20 MB may have a million
    assert "first frame" in image_note(animation)


def test_a_model_of_one_head_answers_with_that(tmp_path: Path) -> None:
    mos = Predictor.load(make_model(tmp_path / "mos", tiny_config(captions=False)))
    assert only(mos, encoded()).captions == []
    told = Predictor.load(make_model(tmp_path / "told", tiny_config(mos=False)))
    found = only(told, encoded())
    assert found.mos is None
    assert found.captions


def test_an_unknown_style_is_named(predictor: Predictor) -> None:
    with pytest.raises(UserError, match="poem.*challenge"):
        predictor.predict_bytes([encoded()], PredictOptions(BEAM, style="poem"))
