"""Captions chosen among candidates, from training to the commands and the API."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from src.common.errors import UserError
from src.config.loader import load_config
from src.data.image_hashes import hash_image
from src.data.sources import load_part
from src.ensemble import main as ensemble
from src.inference.neighbours import CaptionNeighbours
from src.inference.predict_options import PredictOptions, with_rerank
from src.inference.predictor import Prediction, Predictor
from src.inference.submission import read_submission
from src.models.generation import generate_candidates
from src.predict import main as predict
from src.prepare import main as prepare
from src.train import main as train
from tests.tiny import make_model, tiny_config
from tests.training.test_run import experiment, make_data

RERANK = ("--generate.rerank.enabled", "true", "--generate.rerank.neighbours", "3")
PREDICT = ("--data", "data/train", "--output", "X.csv", "--columns", "img_name,comments")


@pytest.fixture
def model(elsewhere: Path) -> Path:
    """A model folder whose data are in the current folder."""
    make_data(elsewhere / "data")
    return make_model(elsewhere / "model")


def test_training_leaves_the_captions_of_its_own_part_beside_the_model(elsewhere: Path) -> None:
    file = experiment(elsewhere, epochs=1, checkpoint_steps=0)
    assert train(["--config", str(file), *RERANK]) == 0
    folder = Path("runs/tiny/model")
    neighbours, parts = CaptionNeighbours.load(folder), load_part(load_config(folder / "config.yaml"), "train")
    assert [image.captions for image in neighbours.images] == [list(sample.captions) for sample in parts]
    assert [image.sha256 for image in neighbours.images] == [hash_image(str(sample.path)) for sample in parts]
    assert predict(["--model", "tiny", *PREDICT]) == 0
    assert json.loads(Path("X.json").read_text())["generate"]["rerank"]["neighbours"] == 3


def test_a_trained_model_is_given_its_training_captions(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"no neighbours.safetensors.*prepare neighbours --model model"):
        predict(["--model", "model", *PREDICT, *RERANK])
    assert predict(["--model", "model", *PREDICT]) == 0
    beam = read_submission(Path("X.csv")).comments
    assert prepare(["neighbours", "--model", "model"]) == 0
    assert "wrote 44 captions of 22 training photos" in capsys.readouterr().out
    assert predict(["--model", "model", *PREDICT]) == 0
    assert read_submission(Path("X.csv")).comments == beam  # off until a person says so
    assert predict(["--model", "model", *PREDICT, *RERANK]) == 0
    assert read_submission(Path("X.csv")).comments != beam
    before = yaml.safe_load((model / "config.yaml").read_text())
    assert prepare(["neighbours", "--model", "model", "--enable", "true"]) == 0
    after = yaml.safe_load((model / "config.yaml").read_text())
    assert after["generate"]["rerank"].pop("enabled")
    assert not before["generate"]["rerank"].pop("enabled")
    assert after == before


def test_bytes_have_the_files_captions_and_the_beam_its_width(model: Path) -> None:
    prepare(["neighbours", "--model", "model"])
    predictor = Predictor.load(model)
    options = PredictOptions(with_rerank(predictor.description.config.generate, True), progress=False, attention=True)
    samples = load_part(predictor.description.config, "train")[:4]
    files = predictor.predict_bytes([sample.path.read_bytes() for sample in samples], options)
    expected, _ = predictor.predict(samples, options)
    for prediction, caption in zip(files, expected.captions, strict=True):
        assert isinstance(prediction, Prediction)
        assert prediction.captions[0].text == caption
        assert len({one.text for one in prediction.captions}) == options.generation.beam
        assert all(len(one.attention) == len(one.words) + 1 for one in prediction.captions)  # type: ignore[arg-type]


def test_candidates_are_the_beam_and_samples(model: Path) -> None:
    predictor = Predictor.load(model)
    config = replace(predictor.description.config.generate, beam=3)
    features = next(predictor.feature_batches(load_part(predictor.description.config, "train")[:3], PredictOptions()))
    grid, decoder = features.features["grid"][:, 0].float(), predictor.engine.decoder
    style = features.features["grid"].new_full((3,), 3).long()
    assert decoder is not None
    candidates = generate_candidates(decoder, grid, style, config, predictor.engine.special)
    assert [len(captions) for captions in candidates] == [3 + config.rerank.samples] * 3
    known = {tuple(caption.tokens): caption.score for captions in candidates for caption in captions[:3]}
    repeated = [c for captions in candidates for c in captions[3:] if tuple(c.tokens) in known]
    assert all(c.score == pytest.approx(known[tuple(c.tokens)], rel=0.3) for c in repeated)


def test_the_candidates_of_several_models(model: Path) -> None:
    config = tiny_config()
    config.data.tokenizer.min_count = 2
    make_model(Path("words"), config, seed=2)  # of another vocabulary
    make_model(Path("other"), seed=3)
    for name in ("model", "words", "other"):
        prepare(["neighbours", "--model", name])
    predict(["--model", "model", *PREDICT, *RERANK])
    alone = read_submission(Path("X.csv")).comments
    for names in (["model", "model"], ["model", "other", "words"]):
        words = ["--models", *names, "--data", "data/train", "--output", "X.csv", *RERANK]
        assert ensemble(words) == 0
        assert json.loads(Path("X.json").read_text())["comments"] == "expected reward"
        assert (read_submission(Path("X.csv")).comments == alone) == (len(names) == 2)


def test_a_model_without_captions_has_no_neighbours(elsewhere: Path) -> None:
    make_model(elsewhere / "mos", tiny_config(captions=False))
    with pytest.raises(UserError, match="--model mos: writes no captions"):
        prepare(["neighbours", "--model", "mos"])
