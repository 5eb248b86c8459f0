"""python -m src.prepare: sub-commands that make, check and prepare data."""

import sys
from collections.abc import Sequence

from src.common.errors import run_command
from src.data import prepare_options
from src.tracking.run_registry import find_model


def main(args: Sequence[str] | None = None) -> int:
    """Hands the command line to one of the commands. Returns the exit code."""
    command, *words = (sys.argv[1:] if args is None else args) or ["--help"]
    if command in ("-h", "--help"):
        print(prepare_options.USAGE, end="")
        return 0
    commands = {run.__name__: run for run in (check, demo, audit, split, cache, neighbours, biq2021, spice)}
    return prepare_options.choose_command(command, commands)(words) or 0


def check(args: Sequence[str]) -> int:
    from src.data.validation import check_data

    config, has_folder, next_config = prepare_options.parse_data_options("check", args)
    report = check_data(config, whole=not has_folder)
    print(report if report.failed else f"{report}\n\ngood to train; next: python -m src.train --config {next_config}")
    return int(report.failed)


def demo(args: Sequence[str]) -> None:
    from src.data.demo import make_demo

    folder, photos, seed, next_folder = prepare_options.parse_demo_options(args)
    state = "wrote" if make_demo(folder, photos, seed) else "unchanged:"
    print(f"{state} challenge and flickr8k in {folder}\nnext: python -m src.prepare check --folder {next_folder}")


def audit(args: Sequence[str]) -> None:
    options = prepare_options.parse_audit_options(args)
    from src.reporting.audit_page import write_audit

    print(write_audit(options))


def split(args: Sequence[str]) -> None:
    config, _, next_config = prepare_options.parse_data_options("split", args)
    from src.inference.shifted_split import write_splits

    print(f"{write_splits(config)}\nnext: python -m src.prepare cache --config {next_config}")


def cache(args: Sequence[str]) -> None:
    config, _, next_file = prepare_options.parse_data_options("cache", args)
    from src.training.datamodule import build_feature_store

    print(f"{build_feature_store(config)}\nin {config.data.cache_dir}; next: python -m src.train --config {next_file}")


def neighbours(args: Sequence[str]) -> None:
    options = prepare_options.parse_neighbours_options(args)
    find_model(options.model)  # before torch loads, which takes seconds
    from src.inference.neighbour_builder import add_neighbours

    print(add_neighbours(options))


def biq2021(args: Sequence[str]) -> None:
    from src.data.biq2021 import convert_biq2021, parse_biq2021_options

    print(convert_biq2021(parse_biq2021_options(args)))


def spice(args: Sequence[str]) -> None:
    from src.metrics.spice import install_spice, parse_fetch_options

    print(install_spice(*parse_fetch_options(args)))


if __name__ == "__main__":
    run_command(main)
