"""Progress on stderr: bars that go away, and lines. Elsewhere than on a terminal, lines with the time of day."""

import sys
import time
from functools import cache
from typing import Any, TextIO

from tqdm import tqdm

LINE_SECONDS = 30  # between two lines of one bar, where there is no terminal
LINE_FORMAT = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed}"


class LineStream:
    """A bar's output where there is no terminal: each state becomes a line of its own."""

    def write(self, text: str) -> None:
        """Prints a state; blank ones, with which tqdm clears a bar, are left out."""
        if text.strip():
            progress_line(text.strip())

    def flush(self) -> None:
        """Nothing: lines are flushed as they are printed."""


def progress_bar(total: int | None, label: str, unit: str = "photo", show: bool = True, scale: bool = False) -> tqdm:
    """A bar for long work, gone when the work is done.

    Args:
        total: number of units; None: unknown.
        label: the work.
        unit: of the work, in the singular.
        show: False: no output.
        scale: print numbers with k, M, G.
    """
    options: dict[str, Any] = {"desc": label, "total": total, "unit": unit, "unit_scale": scale, "disable": not show}
    if is_terminal(sys.stderr):
        return tqdm(leave=False, dynamic_ncols=True, **options)
    pace: dict[str, Any] = {"mininterval": LINE_SECONDS, "maxinterval": 2 * LINE_SECONDS, "delay": LINE_SECONDS}
    return tqdm(leave=False, file=LineStream(), bar_format=LINE_FORMAT, **pace, **options)


def progress_line(text: str) -> None:
    """Prints a line on stderr, above the bars of a terminal."""
    if is_terminal(sys.stderr):
        tqdm.write(text, file=sys.stderr)
    else:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@cache
def print_once(text: str) -> None:
    """Prints a line on stderr, once a process: a config, for one, is resolved and its data read several times."""
    print(text, file=sys.stderr)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person watches the stream; a process without the stream has no watcher."""
    return stream is not None and stream.isatty()
