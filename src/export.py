"""python -m src.export: a model as ONNX files, checked against torch on validation photos."""

from collections.abc import Sequence

from src.common.errors import run_command
from src.config.cli import CommandParser, make_parser
from src.config.schema import Whole
from src.tracking.run_registry import find_model


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, writes the folder, and says how its predictions differ from torch's."""
    options = make_options().parse_args(args)
    find_model(options.model)  # before torch loads, which takes seconds

    from src.inference.onnx_export import export_model

    megabytes, difference = export_model(options)
    print(f"wrote {options.output}: {megabytes:.1f} MB, {'int8' if options.int8 else 'float32'}")
    if difference:
        print(difference.table())
    return 0


def make_options() -> CommandParser:
    """The command's options."""
    parser = make_parser("export", "Writes a model as ONNX files, which onnxruntime computes without torch.", False)
    parser.add_argument("--model", type=str, required=True, help="model folder, run name, run id, or best")
    parser.add_argument("--output", type=str, required=True, help="the folder to write: exports/X")
    about = "the encoder in 8 bits: smaller; ranges are taken from the training photos"
    parser.add_argument("--int8", type=bool, default=False, help=about)
    about = "validation photos to compare with torch: captions, mos and scores; 0: none"
    parser.add_argument("--check", type=Whole, default=200, help=about)
    return parser


if __name__ == "__main__":
    run_command(main)
