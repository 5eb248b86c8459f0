"""python -m src.train --config configs/X.yaml: images and a table to a model folder, or to those of a group of runs."""

from collections.abc import Sequence
from shlex import quote

from jsonargparse import Namespace

from src.common.errors import UserError, run_command
from src.common.text_table import format_table
from src.config.cli import make_parser, parse_command
from src.config.schema import Config, Count


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, trains, and prints the scores, the model folder and the next commands."""
    about = "Trains one model, or one for each fold and seed. The same command resumes runs that were cut short."
    parser = make_parser("train", about)
    parser.add_argument("--again", type=bool, default=False, help="throw away earlier runs of the same name")
    about = "number of runs of a group at the same time, as far as Ray's resources allow"
    parser.add_argument("--at-once", type=Count, default=1, help=about)
    about = "then train on all photos, for the folds' median best epoch; this model has no score of its own"
    parser.add_argument("--refit", action="store_true", help=about)
    config, options = parse_command(parser, args)
    if config.folds or config.seeds > 1:
        return train_folds_and_seeds(config, options)
    if options.refit or options.at_once > 1:
        raise UserError("--refit and --at-once: are for a group of runs; give --folds or --seeds too")

    from src.training.run import train

    result = train(config, again=options.again)
    print(table(result["scores"]))
    print(f"wrote {result['model']}")
    name = quote(result["name"])
    print(f"next: python -m src.evaluate --model {name}")
    print(f"      python -m src.predict --model {name} --data PHOTOS --output submissions/X.csv")
    print("      make ui")
    return 0


def train_folds_and_seeds(config: Config, options: Namespace) -> int:
    """Trains a group, and prints its out-of-fold scores and the next commands."""
    from src.tuning.group_training import train_group

    result = train_group(config, options.again, options.at_once, options.refit)
    print(result.scores)
    print(f"wrote {result.group.folder}/group.json and oof.csv: {len(result.group.members)} models")
    name = quote(result.group.name)
    if result.group.refit:
        print(f"wrote {result.group.refit}: trained on all photos, so it has no score; the ones above are the group's")
    print(f"next: python -m src.evaluate --model {name}")
    final = quote(result.group.refit or result.group.name)
    print(f"      python -m src.predict --model {final} --data PHOTOS --output submissions/X.csv")
    print(f"      python -m src.report --model {name}")
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
