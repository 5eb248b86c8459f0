"""An encoder's ONNX file in 8 bits, weights and activations; the decoder stays as it is.

Held by tests/inference/test_onnx_export.py.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class CalibrationImages(CalibrationDataReader):
    """Images at an encoder's size, [1, 3, H, W] each, one after the other."""

    def __init__(self, name: str, pixels: Iterator[np.ndarray]) -> None:
        """Hands `pixels` to the graph's input `name`."""
        self.name, self.pixels = name, pixels

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next image; None after the last."""
        image = next(self.pixels, None)
        return None if image is None else {self.name: image}


def quantize_encoder(path: Path, name: str, pixels: Iterator[np.ndarray]) -> None:
    """Convolutions and matrix products in 8 bits, by the ranges of images (Jacob et al. 2018), channel by channel.

    Args:
        path: of the ONNX file, which is replaced.
        name: of its input.
        pixels: images, as CalibrationImages takes them.
    """
    with TemporaryDirectory() as folder:
        prepared = _prepare(path, Path(folder))
        path.with_name(f"{path.name}.data").unlink(missing_ok=True)
        path.unlink()
        quantize_static(
            prepared,
            path,
            CalibrationImages(name, pixels),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _prepare(path: Path, folder: Path) -> Path:
    """The file with its weights in it and its layers joined, as the quantizer reads it."""
    merged, prepared = folder / "merged.onnx", folder / "prepared.onnx"
    model = onnx.load(path)
    del model.graph.value_info[:]  # the exporter's shapes are of weights before it turned them; they are inferred anew
    onnx.save(model, merged)
    quant_pre_process(merged, prepared, skip_symbolic_shape=True)
    return prepared
