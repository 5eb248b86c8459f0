"""Progress bars and lines, on a terminal and elsewhere."""

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = """
import time
from src.common import progress
progress.LINE_SECONDS = 0.05
with progress.progress_bar(4, "reading", "row") as bar:
    for _ in range(4):
        time.sleep(0.1)
        bar.update()
progress.progress_line("all rows are read")
"""


def test_elsewhere_than_on_a_terminal_progress_is_lines_with_times() -> None:
    done = subprocess.run([sys.executable, "-c", WORK], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    *states, last = done.stderr.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d all rows are read", last)
    assert states
    for line in states:
        assert re.fullmatch(r"\d\d:\d\d:\d\d reading: [1-4] of 4 rows, 00:00", line)


def test_on_a_terminal_the_bar_goes_away_and_the_line_stays() -> None:
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 80))
    with subprocess.Popen([sys.executable, "-c", WORK], cwd=ROOT, stderr=writer):
        os.close(writer)
        output = b""
        while part := read_terminal(reader):
            output += part
    screen = [line.split("\r")[-1].strip() for line in output.decode().replace("\r\n", "\n").split("\n")]
    assert b"reading" in output
    assert [line for line in screen if line] == ["all rows are read"]


def read_terminal(reader: int) -> bytes:
    """Bytes that a terminal shows; none after its last writer has ended."""
    try:
        return os.read(reader, 4096)
    except OSError:  # Linux's answer where no writer is left
        return b""
