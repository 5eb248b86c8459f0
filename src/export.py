"""python -m src.export: a model as ONNX files, held against torch on validation photos."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.common.errors import run_command
from src.config.loader import CommandParser, make_parser
from src.config.schema import Whole
from src.inference.export_check import compare_predictions, engine_predictions, labelled_images

if TYPE_CHECKING:
    pass

CALIBRATION = 100  # training photos from which int8 takes its ranges


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, writes the folder, and says how its answers differ from torch's."""
    from src.inference.model_loading import load_model
    from src.inference.onnx_export import check_export_folder, export_onnx, load_float32, load_onnx

    options = make_options().parse_args(args)
    output = Path(options.output)
    check_export_folder(output)
    loaded, folder = load_model(options.model)
    samples = (
        labelled_images(loaded, "val", options.check) if options.check else []
    )  # or a mistake is told after the work
    photos = [one.path for one in labelled_images(loaded, "train", CALIBRATION)] if options.int8 else []
    export_onnx(loaded, folder, output, photos)
    size = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    print(f"wrote {output}: {size:.1f} MB, {'int8' if options.int8 else 'float32'}")
    if samples:
        sides = load_float32(folder), load_onnx(output)
        print(compare_predictions(*(engine_predictions(one, samples) for one in sides)).table())
    return 0


def make_options() -> CommandParser:
    """The command's options."""
    parser = make_parser("export", "Writes a model as ONNX files, which onnxruntime computes without torch.", False)
    parser.add_argument("--model", type=str, required=True, help="model folder, run name, run id, or best")
    parser.add_argument("--output", type=str, required=True, help="the folder to write: exports/X")
    about = "the encoder in 8 bits: smaller; ranges are taken from the training photos"
    parser.add_argument("--int8", type=bool, default=False, help=about)
    about = "validation photos to hold against torch: captions, mos and scores; 0: none"
    parser.add_argument("--check", type=Whole, default=200, help=about)
    return parser


if __name__ == "__main__":
    run_command(main)
