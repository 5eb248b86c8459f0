"""Exit codes and error lines of a command."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START = "from src.common.errors import UserError, run_command"
MANY = "run_command(lambda: print(*range(100_000), sep=chr(10)))"


def run(body: str, reader: str = "cat") -> tuple[int, str, str]:
    """Exit code of a program, its standard output as the command `reader` passes it on, and its stderr."""
    program = subprocess.Popen(
        [sys.executable, "-c", f"{START}\n{body}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stderr is not None
    output = subprocess.run(reader.split(), stdin=program.stdout, capture_output=True, text=True, check=True).stdout
    program.stdout.close()
    return program.wait(30), output, program.stderr.read()


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("run_command(lambda: 3)", 3, ""),
        (
            "def main(): raise UserError('x.csv: no row; add one')\nrun_command(main)",
            2,
            "error: x.csv: no row; add one\n",
        ),
        (
            "def main(): raise KeyboardInterrupt\nrun_command(main)",
            130,
            "interrupted; the same command resumes from its last saved state",
        ),
    ],
)
def test_codes_and_lines(body: str, code: int, message: str) -> None:
    ended, _, stderr = run(body)
    assert ended == code
    assert stderr.startswith(message)
    assert stderr.count("\n") == bool(message)


def test_a_reader_that_ends_early_is_no_error() -> None:
    assert run(MANY, "head -n 2") == (141, "0\n1\n", "")


def test_another_broken_pipe_is_one() -> None:
    code, _, stderr = run("def main(): raise BrokenPipeError('of a child')\nrun_command(main)")
    assert code == 1
    assert "BrokenPipeError: of a child" in stderr


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("write_text(Path('README.md/a/b'), 'text')", "README.md/a: Not a directory; choose another place"),
        ("Path('README.md').mkdir()", "README.md: File exists; choose another place"),
        ("Path('README.md').replace('src')", "src: Is a directory; choose another place"),
        ("write_text(Path('/proc/a/b'), 'text')", "/proc/a: No such file or directory; choose another place"),
        ("write_text(Path('x' * 300), 'text')", "File name too long; choose another place"),
        ("Path('/dev/full').write_text('text')", "disk: No space left on device; make room"),
    ],
)
def test_a_place_that_takes_no_files_is_one_line(body: str, message: str) -> None:
    code, _, stderr = run(
        f"from pathlib import Path\nfrom src.common.files import write_text\nrun_command(lambda: {body})"
    )
    assert (code, stderr.count("\n")) == (2, 1)
    assert stderr.startswith("error: ")
    assert message in stderr


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    body = "from pathlib import Path\nfrom src.common.files import write_text\n"
    body += "import resource\nresource.setrlimit(1, (9, 9))\n"
    code, _, stderr = run(f"{body}run_command(lambda: write_text(Path({str(path)!r}), 'text' * 9))")
    assert (code, stderr) == (2, f"error: {path}: File too large; make room, or choose another place\n")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_missing_within_the_program_is_a_mistake_of_its_own(tmp_path: Path) -> None:
    code, _, stderr = run(f"run_command(lambda: open({str(tmp_path / 'absent')!r}))")
    assert code == 1
    assert "FileNotFoundError" in stderr


def test_a_message_stays_on_its_line() -> None:
    text = r"'x.csv: no column a\nb\r\x1b\u2028' + 'c' * 9999 + ' add it'"
    code, _, stderr = run(f"def main(): raise UserError({text})\nrun_command(main)")
    assert code == 2
    assert stderr.startswith("error: x.csv: no column a\\nb\\r\\x1b\\u2028cc")
    assert stderr.endswith("cc add it\n")
    assert (stderr.count("\n"), len(stderr) < 2100) == (1, True)


@pytest.mark.parametrize(
    "terminal",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_a_terminal_that_is_not_utf8_gets_escapes(
    terminal: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in terminal.items():
        monkeypatch.setenv(key, value)
    (tmp_path / "바다").touch()
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(chr(8217))'])"
    body = f"import os, subprocess\ndef main():\n print(os.listdir({str(tmp_path)!r}), flush=True)\n {child}\n"
    code, output, stderr = run(body + " raise UserError(chr(8217))\nrun_command(main)")
    assert (code, stderr) == (2, "error: \\u2019\n")
    assert output == "['\\ubc14\\ub2e4']\n\\u2019\n"
