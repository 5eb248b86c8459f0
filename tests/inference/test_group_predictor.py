"""A group as one predictor: the mean mos, and the caption that most models write."""

import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from src.common.errors import UserError
from src.inference.group_predictor import load_predictor, winning_beam
from src.inference.predict_options import PredictOptions
from src.inference.predictor import BeamCaption, Prediction, Predictor
from src.serving.server import load_served_model
from src.tracking.finished_runs import RunGroup
from src.tracking.run_group import write_group
from tests.tiny import make_model, write_photo


def scale_weights(file: Path, prefix: str) -> None:
    """Doubles the weights of a part of a saved model."""
    with safe_open(file, framework="pt") as opened:
        head = opened.metadata()
    scaled = {
        name: x * 2 if x.is_floating_point() and name.startswith(prefix) else x for name, x in load_file(file).items()
    }
    save_file(scaled, file, head)


def test_members_on_one_backbone_predict_their_mean_and_others_are_refused(elsewhere: Path) -> None:
    make_model(Path("runs/a/model"))
    shutil.copytree("runs/a", "runs/b")
    scale_weights(Path("runs/b/model/model.safetensors"), "mos.body")
    write_group(RunGroup(Path("runs/g"), "g", 0, 2, ["a", "b"]))
    write_photo(Path("p.jpg"), 3)
    data, options = [Path("p.jpg").read_bytes()], PredictOptions()
    [one], [other] = (Predictor.load(Path(f"runs/{name}/model")).predict_bytes(data, options) for name in "ab")
    [joined] = load_served_model("g").predictor.predict_bytes(data, options)
    assert isinstance(one, Prediction)
    assert isinstance(other, Prediction)
    assert isinstance(joined, Prediction)
    assert one.mos is not None
    assert other.mos is not None
    assert abs(one.mos - other.mos) > 0.01
    assert joined.mos == pytest.approx((one.mos + other.mos) / 2)
    assert [caption.text for caption in joined.captions] == [caption.text for caption in one.captions]
    scale_weights(Path("runs/b/model/model.safetensors"), "backbone.")
    with pytest.raises(UserError, match="g: 2 models with backbones of their own are too slow here; name one"):
        load_predictor("g")


def test_the_beam_of_the_vote() -> None:
    beams = [
        [BeamCaption(text, 0.0, []), BeamCaption("second", -1.0, [])] for text in ("a dog", "a red car", "a red bus")
    ]
    assert winning_beam(beams) is beams[1]
