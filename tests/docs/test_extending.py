"""docs/extending.md shows the very files that the tests of plug-ins train and predict with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests/fixtures"
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
FILES = sorted(path.relative_to(FIXTURES).as_posix() for path in FIXTURES.rglob("*.py"))


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_each_file(name: str) -> None:
    assert f'```python title="{name}"\n{(FIXTURES / name).read_text(encoding="utf-8")}```' in PAGE


def test_the_page_shows_no_other_file() -> None:
    assert sorted(re.findall(r'title="([^"]+)"', PAGE)) == FILES


def test_the_command_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("img_name,comments\na.jpg,a dog and a cat\nb.jpg,a bird\n")
    command = [sys.executable, str(FIXTURES / "commands/words.py"), "x.csv", "--most", "2"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "     3 a\n     1 dog\n"), done.stderr
    (tmp_path / "x.csv").write_text("img_name,mos\na.jpg,5.0\n")
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: x.csv: has no comments; name another submission\n")
