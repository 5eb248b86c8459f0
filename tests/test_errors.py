"""How a command ends."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
START = "from src.errors import UserError, run_command"
MANY = "run_command(lambda: print(*range(100_000), sep=chr(10)))"


def run(body: str, reader: str = "cat") -> tuple[int, str, str]:
    """Exit code, what a reader makes of the output, and stderr of a program."""
    program = subprocess.Popen(
        [sys.executable, "-c", f"{START}\n{body}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stderr is not None
    said = subprocess.run(reader.split(), stdin=program.stdout, capture_output=True, text=True, check=True).stdout
    program.stdout.close()
    return program.wait(30), said, program.stderr.read()


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ("run_command(lambda: 3)", 3, ""),
        (
            "def main(): raise UserError('x.csv: no row; add one')\nrun_command(main)",
            2,
            "error: x.csv: no row; add one\n",
        ),
        ("def main(): raise KeyboardInterrupt\nrun_command(main)", 130, "interrupted; the same command goes on"),
    ],
)
def test_codes_and_lines(body: str, code: int, told: str) -> None:
    ended, _, stderr = run(body)
    assert ended == code
    assert stderr.startswith(told)
    assert stderr.count("\n") == bool(told)


def test_a_reader_that_ends_early_is_no_error() -> None:
    assert run(MANY, "head -n 2") == (141, "0\n1\n", "")


def test_another_broken_pipe_is_one() -> None:
    code, _, stderr = run("def main(): raise BrokenPipeError('of a child')\nrun_command(main)")
    assert code == 1
    assert "BrokenPipeError: of a child" in stderr
