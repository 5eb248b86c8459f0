"""From a photo's JPEG bytes to mos and caption, photo by photo, on one core: each way to compute the same model."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from src.config.schema import BackboneConfig, Config, DataConfig, GenerationConfig, SourceConfig, TokenizerConfig
from src.data.tokenizer import END, Tokenizer
from src.inference.engine import GraphEngine
from src.inference.export_check import load_float32
from src.inference.onnx_export import export_onnx
from src.inference.onnx_graph import (
    EncoderGraph,
    Graph,
    GraphDecoder,
    StartGraph,
    StepGraph,
    exportable_decoder,
    state_layout,
)
from src.inference.onnx_runtime import load_onnx
from src.inference.predict_options import PredictOptions
from src.inference.predictor import Predictor
from src.models.backbones.base import Backbone
from src.models.model_folder import LoadedModel, load_model_folder, save_model
from src.models.multitask import MultitaskModel
from tests.benchmarks.feeding import write_photos

Row = tuple[str, str, str]
WORDS, VOCABULARY, PHOTOS, TURNS = 11, 2600, 4, 2


def rows() -> list[Row]:
    """Median milliseconds of a photo, and how many times faster than torch in 32 bits."""
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        photos = write_photos(Path(folder) / "photos", PHOTOS, (375, 500))
        spent = {name: milliseconds(make(), photos) for name, make in ways(Path(folder), photos).items()}
    first = next(iter(spent.values()))

    return [
        (f"JPEG to mos and caption, 1 core, {name}", f"{ms:.0f} ms", f"{first / ms:.2f}x") for name, ms in spent.items()
    ]


def ways(folder: Path, photos: list[Path]) -> dict[str, Callable[[], Predictor]]:
    """Name -> what makes the predictor; made one after the other, so that none takes the others' memory."""
    model = make_model(folder / "model")

    def compiled() -> Predictor:
        loaded = load_model_folder(model)
        return Predictor(loaded, compile_engine(loaded, torch.compile))

    def onnx(name: str, calibration: list[Path]) -> Predictor:
        export_onnx(load_model_folder(model), model, folder / name, calibration)
        return load_onnx(folder / name, threads=1)

    found: dict[str, Callable[[], Predictor]] = {"torch": lambda: load_float32(model)}
    found["torch as trained (bf16 where fast)"] = lambda: Predictor.load(model)
    if shutil.which("c++"):
        found["torch.compile"] = compiled
    return found | {"ONNX": lambda: onnx("onnx", []), "ONNX int8": lambda: onnx("int8", photos)}


def make_model(folder: Path) -> Path:
    """The default model with random weights, as on real data: mos at 512 px with its mirror image, captions at 224 px.

    It ends no caption by itself: all have WORDS words, as people's do.
    """
    torch.manual_seed(0)
    data = DataConfig([SourceConfig(name="x")], caption_size=224, mos_size=512, tokenizer=TokenizerConfig(min_count=1))
    config = Config(data=data)
    config.model.backbone = BackboneConfig(weights="none")
    tokenizer = Tokenizer.train([f"word{i}" for i in range(VOCABULARY)], config.data.tokenizer, ["x"])
    model = MultitaskModel(config.model, Backbone(config.model.backbone), tokenizer.size, 1).eval()
    assert model.decoder is not None
    with torch.no_grad():
        model.decoder.vocabulary.bias[END] = -20.0
    save_model(folder, model, tokenizer.to_json(), config, {"mos_mean": 5.0})
    return folder


def compile_engine(loaded: LoadedModel, wrap: Callable[[nn.Module], Graph]) -> GraphEngine:
    """A model's engine of functions that `wrap` makes of its parts, such as torch.compile.

    Raises:
        UserError: its decoder is of a kind that is no such function.
    """
    model, sizes = loaded.model.eval(), PredictOptions().feature_sizes(loaded.config)
    encoders = {size: wrap(EncoderGraph(model, kinds)) for size, kinds in sizes.items()}
    if (decoder := exportable_decoder(model)) is None:
        return GraphEngine(loaded, encoders, None)
    layout = state_layout(loaded.config.model.decoder.kind)
    return GraphEngine(loaded, encoders, GraphDecoder(wrap(StartGraph(decoder)), wrap(StepGraph(decoder)), layout))


def milliseconds(predictor: Predictor, photos: list[Path]) -> float:
    """Median over photos and turns, after a turn that is not counted."""
    options = PredictOptions(replace(GenerationConfig(), beam=3, max_length=WORDS))
    spent = []
    for turn in range(TURNS + 1):
        for path in photos:
            data = path.read_bytes()
            start = time.perf_counter()
            predictor.predict_bytes([data], options)
            spent += [time.perf_counter() - start] if turn else []
    return 1000 * sorted(spent)[len(spent) // 2]
