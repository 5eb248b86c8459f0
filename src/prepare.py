"""python -m src.prepare: checks data, makes the demo data, writes splits, builds the feature cache, fetches SPICE."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jsonargparse import Namespace

from src.common.errors import UserError, run_command
from src.config.loader import CommandParser, make_parser, parse_command
from src.config.schema import Config, Count, Seed, SourceConfig

FORMATS = ["samsung", "flickr8k", "flickr30k", "coco"]
USAGE = """usage: python -m src.prepare COMMAND [options]; --help after a command explains its options

commands:
  check   say what is in a data set and what is wrong with it (exit code 1 where training would go wrong)
  demo    make the demo data: a few hundred rendered scenes in the challenge's and in Flickr's layout
  split   cut the photos into train, val and test, and write the split down
  cache   compute the features of a frozen backbone once, for all later runs
  spice   fetch what src.evaluate --spice needs (some 400 MB)

examples:
  python -m src.prepare demo
  python -m src.prepare check --config configs/both.yaml
  python -m src.prepare check --folder data/challenge --format samsung
"""


def main(args: Sequence[str] | None = None) -> int:
    """Hands the command line to one of the commands. Returns the exit code."""
    words = list(sys.argv[1:] if args is None else args)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    commands = {"check": check_command, "demo": demo_command, "split": split_command, "cache": cache_command}
    commands["spice"] = spice_command
    if words[0] not in commands:
        raise UserError(f"no command {words[0]!r}; type one of {', '.join(commands)}")
    return commands[words[0]](words[1:])


def check_command(args: Sequence[str]) -> int:
    """Prints the report. Returns 1 where training would go wrong."""
    parser = make_parser("prepare check", "Says what is in a data set and what is wrong with it. Writes nothing.")
    add_shortcut(parser)
    config, options = parse_command(parser, args)
    config = with_folder(config, options.folder, options.format)

    from src.data.validation import check_data

    report = check_data(config, whole=not options.folder)
    print(report)
    if report.failed:
        print("\ntraining would go wrong: mend the errors above, then run the same command again")
        return 1
    print(f"\ngood to train; next: python -m src.train --config {config_to_name(options)}")
    return 0


def demo_command(args: Sequence[str]) -> int:
    """Makes the demo data, or says that it is there."""
    parser = make_parser("prepare demo", "Makes the demo data: rendered scenes with captions and mos.", config=False)
    parser.add_argument("--output", type=str, default="data/demo", help="a new folder for it")
    parser.add_argument("--photos", type=Count, help="photos in each of the two layouts, at least 50; 300 if not given")
    parser.add_argument("--seed", type=Seed, help="the same seed gives the same photos; 0 if not given")
    options = parser.parse_args(args)

    from src.data.demo import make_demo

    made = make_demo(Path(options.output), options.photos, options.seed)
    print(
        f"wrote {options.output}/challenge and /flickr8k" if made else f"{options.output} is there already: unchanged"
    )
    print(f"next: python -m src.prepare check --folder {options.output}/challenge --format samsung")
    return 0


def split_command(args: Sequence[str]) -> int:
    """Writes the split that training will use, and counts its parts."""
    parser = make_parser("prepare split", "Cuts the photos into train, val and test, and writes that down.")
    add_shortcut(parser)
    config, options = parse_command(parser, args)
    data = with_folder(config, options.folder, options.format).data

    from src.data.sources import official_splits, read_sources
    from src.data.split import PARTS, split_file, split_images
    from src.data.validation import align_columns

    samples, given = read_sources(data), official_splits(data)
    file = split_file(samples, data, given)
    made = not file.is_file()
    counts = Counter((source, part) for (source, _), part in split_images(samples, data, given).items())
    sources = dict.fromkeys(sample.source for sample in samples)
    print(
        align_columns(
            [["source", *PARTS], *([source, *(str(counts[source, part]) for part in PARTS)] for source in sources)]
        )
    )
    print(f"{'wrote' if made else 'unchanged:'} {file}")
    if missing := [sample.path for sample in samples if not os.path.isfile(sample.path)]:  # noqa: PTH113
        print(
            f"warning: {len(missing):,} photos are missing, {missing[0]} for one: copies are found by their bytes, so"
        )
        print(f"         copy the photos there, delete {file}, and type the same command again")
    print(f"next: python -m src.prepare cache --config {config_to_name(options)}")
    return 0


def cache_command(args: Sequence[str]) -> int:
    """Computes the features of the frozen backbone that are not in the cache yet."""
    config, options = parse_command(
        make_parser("prepare cache", "Computes the features of a frozen backbone once."), args
    )

    from src.training.datamodule import build_feature_store

    built = build_feature_store(config)
    for path, reason in list(built.failed.items())[:5]:
        print(f"left out: {path}: {reason}", file=sys.stderr)
    print(f"computed the features of {built.photos:,} photos in {built.seconds:.1f} s; {len(built.failed)} left out")
    print(
        f"they are in {config.data.cache_dir}; next: python -m src.train --config {options.config or 'configs/X.yaml'}"
    )
    return 0


def spice_command(args: Sequence[str]) -> int:
    """Fetches what SPICE needs, or says that it is there."""
    from src.metrics.spice import ADDRESS, FOLDER, fetch_spice

    parser = make_parser("prepare spice", "Fetches what SPICE needs: Stanford CoreNLP, some 400 MB.", config=False)
    parser.add_argument("--output", type=str, default=str(FOLDER), help="folder for it; src.evaluate looks here")
    parser.add_argument("--archive", type=str, default=ADDRESS, help="where the zip is: an address, or a local file")
    options = parser.parse_args(args)
    made = fetch_spice(Path(options.output), options.archive)
    print(f"wrote {options.output}" if made else f"{options.output} is there already: unchanged")
    print("next: python -m src.evaluate --model RUN --spice true")
    return 0


def add_shortcut(parser: CommandParser) -> None:
    """Options that name one data set without an experiment's file."""
    parser.add_argument("--folder", type=str, default="", help="look at this data set instead of the config's")
    parser.add_argument("--format", choices=FORMATS, default="samsung", help="how --folder is laid out")


def config_to_name(options: Namespace) -> str:
    """What to give --config next: the file that was read, or one that lists the folder that was looked at instead."""
    if options.folder:
        return f"X.yaml, where X.yaml lists {options.folder} under data.sources"
    return options.config or "configs/X.yaml"


def with_folder(config: Config, folder: str, format: str) -> Config:
    """The config, with one folder as its only data set where one is named; its official split if it has one."""
    if not folder:
        return config
    from src.data.formats.base import NoOfficialSplit
    from src.data.sources import format_module

    source = SourceConfig(format=format, path=folder, split="official")  # type: ignore[arg-type]
    try:
        format_module(source).official_split(source)
    except NoOfficialSplit:
        source = replace(source, split="random")
    return replace(config, data=replace(config.data, sources=[source]))


if __name__ == "__main__":
    run_command(main)
