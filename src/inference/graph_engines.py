"""Engines made of a model's graphs of tensors: computed by torch in 32 bits, or compiled.

Held by tests/inference/test_onnx_export.py and tests/benchmarks/latency.py.
"""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from src.inference.engine import GraphEngine
from src.inference.onnx_graph import (
    EncoderGraph,
    Graph,
    GraphDecoder,
    StartGraph,
    StepGraph,
    exportable_decoder,
    state_layout,
)
from src.inference.predict_options import PredictOptions
from src.inference.predictor import ImageLimits, Predictor
from src.models.model_folder import LoadedModel, load_model_folder


def load_float32(folder: Path, limits: ImageLimits | None = None) -> Predictor:
    """A predictor of a model folder, computed by torch in 32 bits throughout, on the CPU.

    TorchEngine rounds grids to 16 bits, as the feature cache keeps them: too coarse a reference for an export.
    """
    loaded = load_model_folder(folder)
    sizes = PredictOptions().feature_sizes(loaded.config)
    encoders: dict[int, Graph] = {size: EncoderGraph(loaded.model, kinds) for size, kinds in sizes.items()}
    return Predictor(loaded, GraphEngine(loaded, encoders, loaded.model.decoder), limits)


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
