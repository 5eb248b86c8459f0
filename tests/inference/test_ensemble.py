"""Several models as one, through the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.ensemble import main
from src.inference.ensemble_decoder import EnsembleDecoder
from src.inference.submission import Submission, read_submission
from src.models.model_folder import load_model_folder
from src.predict import main as predict
from tests.tiny import META, make_model, tiny_config, write_photo

NAMES = ["0213074526", "1e5", "00", "with space", "사진"]


@pytest.fixture
def photos(elsewhere: Path) -> Path:
    for i, name in enumerate(NAMES):
        write_photo(elsewhere / "photos" / f"{name}.jpg", seed=i)
    (elsewhere / "test.csv").write_text("\n".join(["img_name", *NAMES]), encoding="utf-8")
    return elsewhere


def alone(model: Path, output: str) -> Submission:
    assert predict(["--model", str(model), "--data", "test.csv", "--images", "photos", "--output", output]) == 0
    return read_submission(Path(output))


def together(*words: str) -> Submission:
    code = main(["--data", "test.csv", "--images", "photos", "--output", "joint.csv", "--models", *words])
    assert code == 0
    return read_submission(Path("joint.csv"))


def test_models_that_share_words(photos: Path) -> None:
    a, b = make_model(photos / "a", seed=1), make_model(photos / "b", seed=2)
    one, other = alone(a, "a.csv"), alone(b, "b.csv")
    joined = together("a", "b")
    assert joined.mos == pytest.approx(np.mean([one.mos, other.mos], axis=0), abs=2e-6)
    assert json.loads(Path("joint.json").read_text())["comments"] == "mean probabilities"
    assert together("a", "a").comments == one.comments
    assert joined.comments != one.comments


def test_joint_step_is_the_mean_probability(photos: Path) -> None:
    models = [load_model_folder(make_model(photos / name, seed=seed)).model for name, seed in (("a", 1), ("b", 2))]
    grids = [torch.rand(3, 4, one.backbone.grid_channels) for one in models]
    joint = EnsembleDecoder([one.decoder for one in models if one.decoder], grids)
    tokens = torch.tensor([3, 5, 6])
    with torch.inference_mode():
        logp, state, _ = joint.step(joint.start(grids[0]), tokens)
        again, _, _ = joint.step(state.select(torch.tensor([2, 0])), tokens[:2])
        first = [one.decoder.step(one.decoder.start(g), tokens) for one, g in zip(models, grids, strict=True)]
        second = [one.decoder.step(f[1], tokens[[1, 0, 0]]) for one, f in zip(models, first, strict=True)]
    expected = torch.stack([step[0].softmax(1) for step in first]).mean(0)
    torch.testing.assert_close(logp.exp(), expected)
    selected = torch.stack([step[0].softmax(1) for step in second]).mean(0)
    torch.testing.assert_close(again.exp(), selected[[2, 0]])


def test_models_of_other_words_vote(photos: Path) -> None:
    config = tiny_config()
    config.data.tokenizer.min_count = 2
    a, b = make_model(photos / "a", seed=1), make_model(photos / "b", config, seed=2)
    one, other = alone(a, "a.csv"), alone(b, "b.csv")
    joined = together("a", "a", "b")
    assert joined.mos == pytest.approx((2 * np.array(one.mos) + other.mos) / 3, abs=2e-6)
    assert joined.comments == one.comments
    assert json.loads(Path("joint.json").read_text())["comments"] == "consensus"


def test_one_models_mos_and_the_others_captions(photos: Path) -> None:
    a = make_model(photos / "a", tiny_config(captions=False), seed=1)
    b = make_model(photos / "b", tiny_config(mos=False), seed=2)
    joined = together("a", "b")
    assert joined.mos == alone(a, "a.csv").mos
    assert joined.comments == alone(b, "b.csv").comments


def test_a_style_is_for_the_models_that_write_captions(photos: Path) -> None:
    names = ("challenge", "flickr8k")
    sources = [SourceConfig(format="samsung", name=names[0]), SourceConfig(format="flickr8k", name=names[1])]
    make_model(photos / "a", tiny_config(captions=False), seed=1)
    make_model(photos / "b", tiny_config(mos=False, sources=sources), styles=names, seed=4)
    assert together("a", "b").comments != together("a", "b", "--style", "flickr8k").comments
    assert json.loads(Path("joint.json").read_text())["style"] == "flickr8k"
    with pytest.raises(UserError, match=r"poetry.*challenge, flickr8k"):
        together("a", "b", "--style", "poetry")
    with pytest.raises(UserError, match="--style: no captions are written; leave it out"):
        together("a", "a", "--style", "flickr8k")


def test_an_unreadable_photo_of_models(photos: Path) -> None:
    make_model(photos / "a", seed=1)
    make_model(photos / "b", seed=2, mos_mean=6.5)
    Path("photos/1e5.jpg").write_bytes(b"no photo")
    words = ["--data", "test.csv", "--images", "photos", "--output", "joint.csv", "--models", "a", "b"]
    assert main(words) == 3
    joined = read_submission(Path("joint.csv"))
    assert joined.names == NAMES
    assert joined.mos is not None
    assert joined.comments is not None
    assert joined.mos[1] == 6.0
    assert [text == META["comment"] for text in joined.comments] == [False, True, False, False, False]
    assert json.loads(Path("joint.json").read_text())["fallbacks"] == ["1e5"]
