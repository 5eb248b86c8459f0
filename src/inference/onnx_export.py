"""A model as ONNX files in a folder: an encoder for each image size, and a decoder's start and step.

The folder also holds the model folder's description (config, tokenizer, meta), so prediction needs nothing else.
"""

import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor, nn

from src.common.errors import UserError
from src.common.files import check_output_parent, partial_folder
from src.data.image_io import load_image
from src.data.transforms import resize_for_task
from src.inference.engine import image_pixels
from src.inference.export_check import ExportDifference, compare_predictions, labelled_images, load_float32
from src.inference.model_loading import load_model
from src.inference.neighbours import CAPTIONS, VECTORS
from src.inference.onnx_graph import (
    EncoderGraph,
    StartGraph,
    StepGraph,
    encoder_passes,
    exportable_decoder,
    state_layout,
)
from src.inference.onnx_runtime import DESCRIPTION, is_export, load_onnx
from src.models.decoders.base import CaptionDecoder
from src.models.layers.decoder_state import StateLayout
from src.models.model_folder import LoadedModel

ENCODER = re.compile(r"encoder_(\d+)\.onnx")
DYNAMIC = torch.export.Dim.DYNAMIC
CALIBRATION = 100  # training images from which int8 takes its ranges


def export_model(options: Namespace) -> tuple[float, ExportDifference | None]:
    """Exports a model as a command line says.

    Returns:
        Megabytes written, and the difference from torch on --check validation images; None without such.

    Raises:
        UserError: no such model, images or output, or a decoder that cannot be exported.
    """
    output = Path(options.output)
    check_export_folder(output)
    loaded, folder = load_model(options.model)
    # Read before the export, so that a mistake comes before the work.
    samples = labelled_images(loaded, "val", options.check) if options.check else []
    calibration = labelled_images(loaded, "train", CALIBRATION) if options.int8 else []
    export_onnx(loaded, folder, output, [sample.path for sample in calibration])
    megabytes = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    if not samples:
        return megabytes, None
    return megabytes, compare_predictions(load_float32(folder), load_onnx(output), samples)


def export_onnx(loaded: LoadedModel, source: Path, output: Path, calibration: Sequence[Path] = ()) -> list[Path]:
    """Writes a model's ONNX folder, whole or not at all. Weights lie beside each file as .onnx.data.

    Args:
        loaded: the model, on the CPU.
        source: its model folder.
        output: a new folder, or an older export.
        calibration: images whose ranges int8 takes; none: float32.

    Returns:
        The ONNX files.

    Raises:
        UserError: the decoder is of a kind that cannot be exported; the output is something else.
    """
    check_export_folder(output)
    parts = graph_inputs(loaded)
    with partial_folder(output) as part:
        for name, (module, example, dynamic) in parts.items():
            write_graph(module, example, dynamic, part / f"{name}.onnx")
            if calibration:
                quantize_graph(part / f"{name}.onnx", calibration)
        for name in (*DESCRIPTION, *(name for name in (VECTORS, CAPTIONS) if (source / name).is_file())):
            shutil.copyfile(source / name, part / name)
        shutil.rmtree(output, ignore_errors=True)
        part.rename(output)
    return [output / f"{name}.onnx" for name in parts]


def check_export_folder(output: Path) -> None:
    """Raises UserError where no export can be written; for a check before the work."""
    check_output_parent(output, "name another with --output")
    if output.exists() and not is_export(output):
        raise UserError(f"{output}: is there already and is no export; name another with --output")


Part = tuple[nn.Module, tuple[Any, ...], tuple[Any, ...]]


@torch.no_grad()
def graph_inputs(loaded: LoadedModel) -> dict[str, Part]:
    """Parts by name: module, example inputs and their dynamic sizes; images at their own size vary in both sides."""
    model, config = loaded.model.eval(), loaded.config
    decoder = exportable_decoder(model)
    parts: dict[str, Part] = {}
    grid = torch.zeros(0)
    for item in encoder_passes(config):
        size, kinds = item.size, item.kinds
        encoder, example = EncoderGraph(model, kinds), torch.rand(2, 3, size or 160, size or 192)
        dynamic = dict.fromkeys((0,) if size else (0, 2, 3), DYNAMIC)
        parts[f"encoder_{size}"] = encoder, (example,), (dynamic,)
        grid = encoder(example)[-1] if "grid" in kinds else grid
    return parts if decoder is None else parts | decoder_inputs(decoder, grid, state_layout(config.model.decoder.kind))


def decoder_inputs(decoder: CaptionDecoder, grid: Tensor, layout: StateLayout) -> dict[str, Part]:
    """As `graph_inputs`, of a decoder's start and step; grid [2, N, C]."""
    state, tokens = decoder.start(grid).select(torch.tensor([0, 0, 1])), torch.tensor([3, 3, 3])
    for _ in range(2):  # a part that grows must be longer than 1, or the graph takes that for its only size
        _, state, _ = decoder.step(state, tokens)
    rows: dict[int, Any] = {0: DYNAMIC}
    inputs = (tokens, state.image, state.shared, state.parts)
    growing = [dict.fromkeys((0, *layout.grows), DYNAMIC) for _ in state.parts]
    step = StepGraph(decoder), inputs, (rows, rows, [rows for _ in state.shared], growing)
    return {"start": (StartGraph(decoder), (grid,), (rows,)), "step": step}


@torch.no_grad()
def write_graph(module: nn.Module, example: tuple[Any, ...], dynamic: tuple[Any, ...], path: Path) -> None:
    """One ONNX file, with its weights beside it. Inputs are tensors and lists of them, `dynamic` is of their form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts, about one another
        program = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    assert program is not None
    program.save(path, external_data=True)


def quantize_graph(path: Path, images: Sequence[Path]) -> None:
    """An encoder's ONNX file in 8 bits, by the ranges of images, which must be readable; other files stay."""
    from src.inference.quantization import quantize_encoder

    if encoder := ENCODER.fullmatch(path.name):
        resized = (resize_for_task(load_image(image), int(encoder[1])) for image in images)
        quantize_encoder(path, "pixels", (image_pixels(image, False).numpy() for image in resized))
