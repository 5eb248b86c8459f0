"""An export computed by onnxruntime on the CPU.

Held by tests/inference/test_onnx_export.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.common.errors import UserError
from src.common.files import check_readable
from src.inference.engine import GraphEngine
from src.inference.onnx_graph import Graph, GraphDecoder, encoder_passes, state_layout
from src.inference.predictor import ImageLimits, Predictor
from src.models.model_folder import describe_model

DESCRIPTION = ("config.yaml", "tokenizer.json", "meta.json")


def is_export(folder: Path) -> bool:
    """Whether a folder holds an export."""
    return any(folder.glob("encoder_*.onnx")) and all((folder / name).is_file() for name in DESCRIPTION)


def load_onnx(folder: Path, limits: ImageLimits | None = None, threads: int = 0) -> Predictor:
    """A predictor of an export, computed with so many threads; 0: as onnxruntime chooses.

    Raises:
        UserError: the folder holds no export.
    """
    if not is_export(folder):
        raise UserError(f"{folder}: holds no export; make one with python -m src.export --model RUN --output {folder}")
    description = describe_model(folder)
    sizes = [item.size for item in encoder_passes(description.config)]
    encoders = {size: onnx_session(folder / f"encoder_{size}.onnx", threads) for size in sizes}
    decoder = None
    if description.config.model.decoder.enabled:
        start, step = (onnx_session(folder / f"{name}.onnx", threads) for name in ("start", "step"))
        decoder = GraphDecoder(start, step, state_layout(description.config.model.decoder.kind))
    return Predictor(description, GraphEngine(description, encoders, decoder), limits)


def onnx_session(path: Path, threads: int = 0) -> Graph:
    """An ONNX file as a function of tensors on the CPU."""
    import onnxruntime

    check_readable(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def compute(*values: Any) -> Sequence[Tensor]:
        """Inputs that the graph does not need, such as a GRU's cell, are left out of it."""
        inputs = step_inputs(values) if path.stem == "step" else {names[0]: values[0]}
        outputs = session.run(None, {name: inputs[name].contiguous().numpy() for name in names})
        return [torch.from_numpy(value) for value in outputs]

    return compute


def step_inputs(values: Sequence[Any]) -> dict[str, Tensor]:
    """The inputs of StepGraph by the names that the exporter gives them."""
    tokens, image, shared, parts = values
    inputs = {"tokens": tokens, "image": image}
    inputs |= {f"shared_{i}": part for i, part in enumerate(shared)}
    return inputs | {f"parts_{i}": part for i, part in enumerate(parts)}
