"""python -m src.train --config configs/X.yaml: one run, from images and a table to a model folder."""

from collections.abc import Sequence

from src.common.errors import run_command
from src.config.loader import make_parser, parse_command


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, trains, and prints the scores, the model folder and the next commands."""
    parser = make_parser("train", "Trains one model. The same command resumes a run that was cut short.")
    parser.add_argument("--again", type=bool, default=False, help="throw away an earlier run of the same name")
    config, options = parse_command(parser, args)

    from src.training.run import train

    result = train(config, again=options.again)
    print(table(result["scores"]))
    print(f"wrote {result['model']}")
    print(f"next: python -m src.evaluate --model {result['name']}")
    print(f"      python -m src.predict --model {result['name']} --data PHOTOS --output submissions/X.csv")
    print("      make ui")
    return 0


def table(scores: dict[str, dict[str, float]]) -> str:
    """Scores with their 95 % intervals as aligned lines."""
    lines = [f"{'score':<18}{'value':>9}   95 % interval"]
    for name, s in scores.items():
        interval = f"{s['low']:9.4f} .. {s['high']:.4f}" if s.get("low") is not None else ""
        lines.append(f"{name:<18}{s['value']:9.4f} {interval}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
