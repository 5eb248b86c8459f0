"""A model as ONNX files in a folder, and onnxruntime computing it: an encoder a photo size, a decoder's start and step.

The folder also holds what a model folder says of itself (config, tokenizer, meta), so it answers without that.
"""

import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.common.files import check_output_parent
from src.data import transforms
from src.data.feature_store import FeatureKind
from src.data.image_io import load_image
from src.inference.batch_prediction import PredictOptions, feature_sizes
from src.inference.onnx_graph import (
    EncoderGraph,
    Graph,
    GraphDecoder,
    StartGraph,
    StepGraph,
    exportable_decoder,
    state_layout,
)
from src.inference.predictor import Limits, Predictor
from src.models.generation import StepDecoder
from src.models.model_folder import LoadedModel, describe_model, load_model_folder

DESCRIPTION = ("config.yaml", "tokenizer.json", "meta.json")
NAME = re.compile(r"encoder_(\d+)\.onnx")
DYNAMIC = torch.export.Dim.DYNAMIC


class GraphEngine:
    """An answerer's engine made of functions of tensors: compiled ones, or onnxruntime's."""

    def __init__(
        self, encoders: dict[int, tuple[list[FeatureKind], Graph]], decoder: StepDecoder | None, flip: bool
    ) -> None:
        """Encoders by photo size with what they give, a decoder, and whether mos is averaged with the mirror image."""
        self.encoders, self.decoder, self.flip = encoders, decoder, flip

    def see(self, photos: list[np.ndarray]) -> tuple[Tensor | None, Tensor | None]:
        """As Engine's: mos [R] and grid [R, N, C]. Photo by photo: made for one that somebody waits for."""
        mos: list[Tensor] = []
        grid: list[Tensor] = []
        for photo in photos:
            for size, (kinds, encode) in self.encoders.items():
                found = list(encode(image_pixels(photo, size, self.flip and "levels" in kinds)))
                if "levels" in kinds:
                    mos.append(found[0].mean())
                if "grid" in kinds:
                    grid.append(found[-1][0])
        return torch.stack(mos) if mos else None, torch.stack(grid) if grid else None


def image_pixels(photo: np.ndarray, size: int, flip: bool) -> Tensor:
    """A photo [H, W, 3] uint8 at a task's size, and its mirror image, as [views, 3, size, size] in 0..1."""
    seen = transforms.resize_for_task(photo, size)
    views = [seen, cv2.flip(seen, 1)] if flip else [seen]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float().div_(255).contiguous()


def load_float32(folder: Path, limits: Limits | None = None) -> Predictor:
    """An answerer of a model folder, computed by torch in 32 bits throughout, on the CPU.

    Prediction rounds grids to 16 bits, as the feature cache keeps them: too coarse to hold another computation against.
    """
    loaded = load_model_folder(folder)
    wanted = feature_sizes(loaded.config, PredictOptions(loaded.config.generate))
    encoders: dict[int, tuple[list[FeatureKind], Graph]] = {
        s: (kinds, EncoderGraph(loaded.model, kinds)) for s, kinds in wanted.items()
    }
    return Predictor(loaded, GraphEngine(encoders, loaded.model.decoder, loaded.config.data.flip), limits)


def compile_engine(loaded: LoadedModel, wrap: Callable[[nn.Module], Graph]) -> GraphEngine:
    """A model's engine of functions that `wrap` makes of its parts, such as torch.compile.

    Raises:
        UserError: its decoder is of a kind that is no such function.
    """
    model, config = loaded.model.eval(), loaded.config
    wanted = feature_sizes(config, PredictOptions(config.generate))
    encoders = {size: (kinds, wrap(EncoderGraph(model, kinds))) for size, kinds in wanted.items()}
    decoder = exportable_decoder(model)
    if decoder is None:
        return GraphEngine(encoders, None, config.data.flip)
    made = GraphDecoder(wrap(StartGraph(decoder)), wrap(StepGraph(decoder)), state_layout(config.model.decoder.kind))
    return GraphEngine(encoders, made, config.data.flip)


def export_onnx(loaded: LoadedModel, source: Path, output: Path, calibration: Sequence[Path] = ()) -> list[Path]:
    """Writes a model's ONNX folder, whole or not at all. Weights lie beside each file as .onnx.data.

    Args:
        loaded: the model, on the CPU.
        source: its model folder.
        output: a folder that is not there yet, or an older export.
        calibration: photos whose ranges int8 takes; none: float32.

    Returns:
        The ONNX files.

    Raises:
        UserError: the decoder is of a kind that cannot be exported; the output is something else.
    """
    check_export_folder(output)
    parts = graph_inputs(loaded)
    part = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        for name, (module, example, dynamic) in parts.items():
            write_graph(module, example, dynamic, part / f"{name}.onnx")
            if calibration:
                quantize_graph(part / f"{name}.onnx", calibration)
        for name in DESCRIPTION:
            shutil.copyfile(source / name, part / name)
        part.chmod(0o755)
        shutil.rmtree(output, ignore_errors=True)
        part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return [output / f"{name}.onnx" for name in parts]


def check_export_folder(output: Path) -> None:
    """Raises UserError where no export can be written; asked before the work, not after it."""
    check_output_parent(output, "name another with --output")
    if output.exists() and not is_export(output):
        raise UserError(f"{output}: is there already and is no export; name another with --output")


Part = tuple[nn.Module, tuple[Any, ...], tuple[Any, ...]]


@torch.no_grad()
def graph_inputs(loaded: LoadedModel) -> dict[str, Part]:
    """The parts by name: module, example inputs and which of their sizes vary.

    Photos at their own size vary in height and width too.
    """
    model, config = loaded.model.eval(), loaded.config
    decoder = exportable_decoder(model)
    parts: dict[str, Part] = {}
    grid = torch.zeros(0)
    for size, kinds in feature_sizes(config, PredictOptions(config.generate)).items():
        encoder, example = EncoderGraph(model, kinds), torch.rand(2, 3, size or 160, size or 192)
        parts[f"encoder_{size}"] = (
            encoder,
            (example,),
            ({0: DYNAMIC} if size else {0: DYNAMIC, 2: DYNAMIC, 3: DYNAMIC},),
        )
        grid = encoder(example)[-1] if "grid" in kinds else grid
    if decoder is None:
        return parts
    state, tokens = decoder.start(grid).select(torch.tensor([0, 0, 1])), torch.tensor([3, 3, 3])
    for _ in range(2):  # what grows must be longer than 1, or the graph takes that for its only size
        _, state, _ = decoder.step(state, tokens)
    form = state_layout(config.model.decoder.kind)
    rows: dict[int, Any] = {0: DYNAMIC}
    given = (tokens, state.image, state.shared, state.parts)
    dynamic = (
        rows,
        rows,
        [rows for _ in state.shared],
        [dict.fromkeys((0, *form.grows), DYNAMIC) for _ in state.parts],
    )
    return parts | {"start": (StartGraph(decoder), (grid,), (rows,)), "step": (StepGraph(decoder), given, dynamic)}


@torch.no_grad()
def write_graph(module: nn.Module, example: tuple[Any, ...], dynamic: tuple[Any, ...], path: Path) -> None:
    """One ONNX file, with its weights beside it. Inputs are tensors and lists of them, `dynamic` is of their form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts, about one another
        program = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    assert program is not None
    program.save(path, external_data=True)


def quantize_graph(path: Path, photos: Sequence[Path]) -> None:
    """An encoder's ONNX file in 8 bits, by the ranges of photos, which must be readable; other files stay."""
    from src.inference.quantization import quantize_encoder

    found = NAME.fullmatch(path.name)
    if found is None:
        return
    size = int(found[1])
    quantize_encoder(path, "pixels", (image_pixels(load_image(one), size, False).numpy() for one in photos))


def is_export(folder: Path) -> bool:
    """Whether a folder holds an export."""
    return any(folder.glob("encoder_*.onnx")) and all((folder / name).is_file() for name in DESCRIPTION)


def load_onnx(folder: Path, limits: Limits | None = None, threads: int = 0) -> Predictor:
    """An answerer computed by onnxruntime on the CPU, with so many threads; 0: as it chooses.

    Raises:
        UserError: the folder holds no export.
    """
    if not is_export(folder):
        raise UserError(f"{folder}: holds no export; make one with python -m src.export --model RUN --output {folder}")
    about = describe_model(folder)
    wanted = feature_sizes(about.config, PredictOptions(about.config.generate))
    encoders = {size: (kinds, onnx_session(folder / f"encoder_{size}.onnx", threads)) for size, kinds in wanted.items()}
    decoder = None
    if about.config.model.decoder.enabled:
        start, step = (onnx_session(folder / f"{name}.onnx", threads) for name in ("start", "step"))
        decoder = GraphDecoder(start, step, state_layout(about.config.model.decoder.kind))
    return Predictor(about, GraphEngine(encoders, decoder, about.config.data.flip), limits)


def onnx_session(path: Path, threads: int = 0) -> Graph:
    """An ONNX file as a function of tensors on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    run = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs, outputs = run.get_inputs(), run.get_outputs()

    def compute(*values: Any) -> Sequence[Tensor]:
        """Inputs that the graph does not need, such as a GRU's cell, are left out of it."""
        given = named_inputs(values) if path.stem == "step" else {inputs[0].name: values[0]}
        found = run.run(None, {one.name: given[one.name].contiguous().numpy() for one in inputs})
        return [torch.from_numpy(value) for value in found[: len(outputs)]]

    return compute


def named_inputs(values: Sequence[Any]) -> dict[str, Tensor]:
    """Step's inputs by the names that the exporter gives them."""
    tokens, photo, shared, own = values
    lists = {"shared": shared, "own": own}
    parts = {f"{name}_{i}": part for name, some in lists.items() for i, part in enumerate(some)}
    return {"tokens": tokens, "photo": photo} | parts
