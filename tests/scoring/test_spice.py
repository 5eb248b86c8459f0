"""SPICE: what it needs is fetched from an archive, and is named where it is not there."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from src.errors import UserError
from src.prepare import main
from src.scoring.spice import FOLDER, JARS, NAME, spice


def write_archive(path: Path, jars: tuple[str, ...] = JARS) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        for jar in jars:
            packed.writestr(f"{NAME}/{jar}", f"content of {jar}")


def test_what_is_missing_is_named_with_the_command(elsewhere: Path) -> None:
    with pytest.raises(UserError, match="spice-1.0.jar is not there.* python -m src.prepare spice") as error:
        spice(["a cat"], [["a dog"]])
    assert "\n" not in str(error.value)


def test_fetching_from_a_local_archive(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_archive(Path("corenlp.zip"))
    assert main(["spice", "--archive", "corenlp.zip"]) == 0
    for jar in JARS:
        assert (FOLDER / "lib" / jar).read_text() == f"content of {jar}"
    assert (FOLDER / "spice-1.0.jar").stat().st_size > 10_000
    main(["spice", "--archive", "none.zip"])
    assert "unchanged" in capsys.readouterr().out
    with pytest.raises(UserError, match="--spice: its Java failed") as error:  # the libraries are no libraries
        spice(["a cat"], [["a dog"]])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_a_wrong_archive_leaves_nothing(elsewhere: Path, content: bytes) -> None:
    Path("wrong.zip").write_bytes(content)
    with pytest.raises(UserError, match="fetch it again"):
        main(["spice", "--archive", "wrong.zip"])
    write_archive(Path("half.zip"), JARS[:1])
    with pytest.raises(UserError, match="fetch it again"):
        main(["spice", "--archive", "half.zip"])
    with pytest.raises(UserError, match="cannot be fetched"):
        main(["spice", "--archive", "file:///nowhere.zip"])
    assert not (FOLDER / "lib" / JARS[1]).exists()


@pytest.mark.slow
def test_spice_of_the_same_and_of_another_caption() -> None:
    """Needs what `python -m src.prepare spice` fetches."""
    if not (FOLDER / "lib" / JARS[1]).is_file():
        pytest.skip("python -m src.prepare spice was not run here")
    found = spice(["a red car on a street", "a dog"], [["a red car on a street"], ["two people dance"]])
    assert found == pytest.approx(np.array([1.0, 0.0]))
