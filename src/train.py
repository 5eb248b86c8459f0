"""python -m src.train --config configs/X.yaml: one run, from images and a table to a model folder."""

from collections.abc import Sequence
from shlex import quote

from src.common.errors import run_command
from src.common.text_table import format_table
from src.config.cli import make_parser, parse_command


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, trains, and prints the scores, the model folder and the next commands."""
    parser = make_parser("train", "Trains one model. The same command resumes a run that was cut short.")
    parser.add_argument("--again", type=bool, default=False, help="throw away an earlier run of the same name")
    config, options = parse_command(parser, args)

    from src.training.run import train

    result = train(config, again=options.again)
    print(table(result["scores"]))
    print(f"wrote {result['model']}")
    name = quote(result["name"])
    print(f"next: python -m src.evaluate --model {name}")
    print(f"      python -m src.predict --model {name} --data PHOTOS --output submissions/X.csv")
    print("      make ui")
    return 0


def table(scores: dict[str, dict[str, float]]) -> str:
    """Scores with their 95 % intervals as aligned lines."""
    rows = [["score", "value", "95 % interval"]]
    for name, score in scores.items():
        interval = f"{score['low']:.4f} .. {score['high']:.4f}" if score.get("low") is not None else ""
        rows.append([name, f"{score['value']:.4f}", interval])
    return format_table(rows, right={1})


if __name__ == "__main__":
    run_command(main)
