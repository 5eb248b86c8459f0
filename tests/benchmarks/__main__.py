"""`make bench`: one table of everything that is measured, each ratio from one run on the machine at hand."""

import argparse
import importlib
import os
import subprocess
import sys

PARTS = ("feeding", "training", "trained_top", "generation", "checkpointing", "latency", "scores")


def main() -> None:
    """Runs every part in a process of its own, so that none warms or burdens the next."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="only these; all by default")
    parser.add_argument("--here", action="store_true", help="in this process")
    options = parser.parse_args()
    if options.here:
        show(options.part)
        return
    print(f"{os.cpu_count()} CPU threads\n\n{'what':<72}{'measured':>40}{'ratio':>24}", flush=True)
    for part in options.part or PARTS:
        subprocess.run([sys.executable, "-m", "tests.benchmarks", part, "--here"], check=True)


def show(parts: list[str]) -> None:
    """Prints the rows of some parts."""
    for part in parts:
        for what, measured, ratio in importlib.import_module(f"tests.benchmarks.{part}").rows():
            print(f"{what:<72}{measured:>40}{ratio:>24}", flush=True)


if __name__ == "__main__":
    main()
