"""Errors that a person can cause and mend: one line, the remedy in it, exit code 2."""

import os
import select
import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input. The message is one line: it names the file, row or key, and says what to do."""


def one_line(message: object) -> str:
    """A message with its line breaks and runs of spaces folded."""
    return " ".join(str(message).split())


def run_command(command: Callable[[], int | None]) -> None:
    """Runs a command's main function and ends the process with its exit code.

    0: done; 1: a check found problems; 2: bad input, one line on stderr; 3: done, but some rows needed a fallback;
    130: interrupted from the keyboard; 141: what read the output, such as head, has ended.
    """
    try:
        code = command() or 0
        sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        if not reader_gone():
            raise
        sys.exit(141)


def reader_gone() -> bool:
    """Whether nobody reads standard output any more; what is left to be said is then dropped."""
    look = select.poll()
    look.register(sys.stdout.fileno(), 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in look.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
    return gone
