"""An encoder's ONNX file in 8 bits, weights and activations; the decoder stays as it is."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class CalibrationImages(CalibrationDataReader):
    """Photos, already at an encoder's size, [1, 3, H, W] each, one after the other."""

    def __init__(self, name: str, pixels: Iterator[np.ndarray]) -> None:
        """Hands `pixels` to the graph's input `name`."""
        self.name, self.pixels = name, pixels

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next photo; None after the last."""
        photo = next(self.pixels, None)
        return None if photo is None else {self.name: photo}


def quantize_encoder(path: Path, name: str, pixels: Iterator[np.ndarray]) -> None:
    """Convolutions and matrix products in 8 bits, by the ranges that photos give (Jacob et al. 2018), a channel each.

    Args:
        path: of the ONNX file, which is replaced.
        name: of its input.
        pixels: photos, as Photos takes them.
    """
    with TemporaryDirectory() as folder:
        ready = _ready(path, Path(folder))
        quantize_static(
            ready,
            _emptied(path),
            CalibrationImages(name, pixels),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _ready(path: Path, folder: Path) -> Path:
    """The file with its weights in it and its layers joined, as the quantizer wants it."""
    whole, ready = folder / "whole.onnx", folder / "ready.onnx"
    model = onnx.load(path)
    del model.graph.value_info[:]  # the exporter's shapes are of weights before it turned them; they are inferred anew
    onnx.save(model, whole)
    quant_pre_process(whole, ready, skip_symbolic_shape=True)
    return ready


def _emptied(path: Path) -> Path:
    """The path, with nothing left of the file and its weights."""
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
    path.unlink()
    return path
