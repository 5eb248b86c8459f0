"""Exports computed by onnxruntime against torch: whole beams, attention and mos of photos of many shapes."""

from dataclasses import replace
from math import nan
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.common.errors import UserError
from src.config.schema import Config, GenerationConfig, SourceConfig
from src.data.demo import make_demo
from src.data.tokenizer import Tokenizer
from src.export import main
from src.inference.export_check import ExportDifference, labelled_images, load_float32
from src.inference.onnx_runtime import load_onnx
from src.inference.predict_options import PredictOptions
from src.inference.predictor import Prediction, Predictor
from src.models.backbones.base import Backbone
from src.models.model_folder import load_model_folder, save_model
from src.models.multitask import MultitaskModel
from tests.tiny import make_model, tiny_config
from tests.training.test_run import make_data

ASK = PredictOptions(GenerationConfig(beam=3, max_length=6), attention=True)


def config_of(mos: bool = True, captions: bool = True, mos_size: int = 32, **decoder: object) -> Config:
    """A tiny config whose captions see a grid of 2 x 2 places."""
    config = tiny_config(mos, captions)
    config.data.caption_size, config.data.mos_size = 64, mos_size
    config.model.decoder = replace(config.model.decoder, **decoder)  # type: ignore[arg-type]
    return config


def photos(count: int) -> list[bytes]:
    """JPEG files of all shapes."""
    rng = np.random.default_rng(0)
    shapes = rng.integers(40, 120, (count, 2))
    blocks = [cv2.resize(rng.integers(0, 256, (5, 5, 3), np.uint8), (w, h)) for h, w in shapes.tolist()]
    return [cv2.imencode(".jpg", block)[1].tobytes() for block in blocks]


def exported(folder: Path, config: Config) -> tuple[Predictor, Predictor]:
    """A model computed by torch and by onnxruntime."""
    model = make_model(folder / "model", config)
    assert main(["--model", str(model), "--output", str(folder / "onnx"), "--check", "0"]) == 0
    return load_float32(model), load_onnx(folder / "onnx", threads=1)


def hold_against(torch: Predictor, onnx: Predictor, count: int) -> None:
    """The same captions, scores to 1e-4, attention to 1e-5, mos to 1e-4."""
    files = photos(count)
    different = set()
    for one, other in zip(torch.predict_bytes(files, ASK), onnx.predict_bytes(files, ASK), strict=True):
        assert isinstance(one, Prediction)
        assert isinstance(other, Prediction)
        assert other.mos == (None if one.mos is None else pytest.approx(one.mos, abs=1e-4))
        assert [caption.text for caption in other.captions] == [caption.text for caption in one.captions]
        for a, b in zip(one.captions, other.captions, strict=True):
            assert b.score == pytest.approx(a.score, abs=1e-4)
            np.testing.assert_allclose(b.attention, a.attention, atol=1e-5)  # type: ignore[arg-type]
        different.add((one.mos, *(caption.text for caption in one.captions)))
    seen = 5 if one.mos is None else count // 2  # captions alone are alike for many photos
    assert len(different) > seen  # or the test would say nothing


@pytest.mark.parametrize(
    ("alike", "mos", "told"), [(None, 1e-5, "mos differs by at most 1e-05"), (3, nan, "3 of 4 captions")]
)
def test_only_heads_that_are_there_are_held_against_torch(alike: int | None, mos: float, told: str) -> None:
    assert ExportDifference(4, alike, mos, {}).table().splitlines()[-1].startswith(told)
    assert ";" not in ExportDifference(4, alike, mos, {}).table()


LLAMA = {"dim": 32, "layers": 2, "heads": 4, "kv_heads": 2, "encoder_layers": 1}


@pytest.mark.parametrize(
    "config", [config_of(mos_size=0, attention="gated"), config_of(kind="llama", options=LLAMA)], ids=["gated", "llama"]
)
def test_attention_and_photos_at_their_own_size(config: Config, tmp_path: Path) -> None:
    hold_against(*exported(tmp_path, config), 12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        config_of(cell="gru", layers=3, attention="bahdanau"),
        config_of(mos_size=64, cell="lstm", layers=2, attention="none", image="input"),
        config_of(mos=False, cell="gru", attention="none"),
        config_of(captions=False),
    ],
    ids=["gru-3-bahdanau", "lstm-2-input", "captions", "mos"],
)
def test_every_recurrent_decoder(config: Config, tmp_path: Path) -> None:
    hold_against(*exported(tmp_path, config), 200)


@pytest.mark.slow
def test_what_8_bits_cost_is_told(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_demo(Path("data"), photos=50)
    config = config_of()
    config.data.sources = [SourceConfig(format="samsung", path="data/challenge", name="challenge")]
    config.data.val = 0.3
    model = make_model(elsewhere / "model", config)
    sizes = []
    for more in ([], ["--int8", "true"]):
        assert main(["--model", str(model), "--output", "onnx", *more]) == 0  # an older export is replaced
        sizes.append(sum(file.stat().st_size for file in Path("onnx").iterdir()))
    told = capsys.readouterr().out
    whole, small = told.split("wrote onnx")[1:]
    assert "12 of 12 captions are the same" in whole
    assert "int8" in small
    assert "srcc" in small
    assert sizes[1] < sizes[0]


def test_mistakes_are_one_line(tmp_path: Path, elsewhere: Path) -> None:
    config, merged = config_of(kind="merge", attention="none"), tmp_path / "merged"
    tokenizer = Tokenizer.train(["a photo"], config.data.tokenizer, ["x"])
    model = MultitaskModel(config.model, Backbone(config.model.backbone), tokenizer.size, 1)
    save_model(merged, model, tokenizer.to_json(), config, {})
    with pytest.raises(UserError, match="kind is merge"):
        main(["--model", str(merged), "--output", "onnx", "--check", "0"])
    assert not Path("onnx").exists()
    Path("mine").mkdir()
    plain = make_model(tmp_path / "plain" / "model")
    with pytest.raises(UserError, match="mine: is there already"):
        main(["--model", str(plain), "--output", "mine", "--check", "0"])
    Path("file").touch()
    with pytest.raises(UserError, match="^file: cannot be made"):
        main(["--model", str(plain), "--output", "file/onnx", "--check", "0"])
    with pytest.raises(UserError, match="holds no export"):
        load_onnx(Path("mine"))


def test_photos_that_cannot_be_read_are_left_out(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_data(Path("data"))
    config = config_of()
    config.data.val = 0.5
    loaded = load_model_folder(make_model(elsewhere / "model", config))
    whole = {part: labelled_images(loaded, part, 6) for part in ("train", "val")}
    for samples in whole.values():
        samples[0].path.unlink()
    for part, samples in whole.items():
        assert labelled_images(loaded, part, 6) == samples[1:]
        told = f"1 of 6 {part} photos cannot be used, such as {samples[0].path} cannot be read"
        assert told in capsys.readouterr().err
    for path in Path("data/train").iterdir():
        path.write_bytes(path.name.encode())
    with pytest.raises(UserError, match="cannot be used, .* --check 0"):
        main(["--model", "model", "--output", "onnx", "--check", "6"])
