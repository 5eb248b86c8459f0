"""SPICE: what it needs is fetched from an archive, and is named where it is not there."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import UserError
from src.metrics.spice import FOLDER, JARS, NAME, spice
from src.prepare import main


def write_archive(path: Path, jars: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        for jar, content in jars.items():
            packed.writestr(f"{NAME}/{jar}", content)


def library(*names: str) -> bytes:
    """A jar with files of some names."""
    with zipfile.ZipFile(content := io.BytesIO(), "w") as packed:
        for name in names:
            packed.writestr(name, f"content of {name}")
    return content.getvalue()


CODE, MODELS = JARS
WHOLE = {CODE: library(JARS[CODE]), MODELS: library(JARS[MODELS] + "one.gz")}


def test_what_is_missing_is_named_with_the_command(elsewhere: Path) -> None:
    with pytest.raises(UserError, match="spice-1.0.jar is not there.* python -m src.prepare spice") as error:
        spice(["a cat"], [["a dog"]])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fetched", [False, True])
def test_fetching_an_archive(elsewhere: Path, fetched: bool, capsys: pytest.CaptureFixture[str]) -> None:
    write_archive(Path("corenlp.zip"), WHOLE)
    address = Path("corenlp.zip").resolve().as_uri() if fetched else "corenlp.zip"
    assert main(["spice", "--archive", address]) == 0
    for jar, content in WHOLE.items():
        assert (FOLDER / "lib" / jar).read_bytes() == content
    assert (FOLDER / "spice-1.0.jar").stat().st_size > 10_000
    main(["spice", "--archive", "none.zip"])
    assert "unchanged" in capsys.readouterr().out
    with pytest.raises(UserError, match="--spice: its Java failed") as error:  # the libraries are no libraries
        spice(["a cat"], [["a dog"]])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fetched", [True, False])
def test_the_size_of_an_archive_and_of_its_libraries_is_bounded(
    elsewhere: Path, fetched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.metrics.spice.MAX_BYTES", 50)
    with zipfile.ZipFile("corenlp.zip", "w") as archive:
        for name, content in WHOLE.items():
            archive.writestr(f"stanford-corenlp-full-2015-12-09/{name}", content)
    address = Path("corenlp.zip").resolve().as_uri() if fetched else "corenlp.zip"
    with pytest.raises(UserError, match="has more than 50 bytes"):
        main(["spice", "--archive", address])
    assert not any((FOLDER / "lib" / jar).exists() for jar in JARS)


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_a_wrong_archive_leaves_nothing(elsewhere: Path, content: bytes) -> None:
    Path("wrong.zip").write_bytes(content)
    with pytest.raises(UserError, match="fetch it again"):
        main(["spice", "--archive", "wrong.zip"])
    with pytest.raises(UserError, match="cannot be fetched"):
        main(["spice", "--archive", "file:///nowhere.zip"])
    with pytest.raises(UserError, match="^wrong.zap: no such file; correct --archive"):
        main(["spice", "--archive", "wrong.zap"])
    assert not any((FOLDER / "lib" / jar).exists() for jar in JARS)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({CODE: WHOLE[CODE]}, f"no item named .*{MODELS}"),
        (WHOLE | {MODELS: b"x"}, f"its {MODELS} is no library"),
        (WHOLE | {MODELS: library("edu/other.class")}, f"its {MODELS} has no edu/stanford/nlp/models/"),
        (WHOLE | {CODE: b"x"}, f"its {CODE} is no library"),
    ],
)
def test_libraries_that_java_could_not_use_are_refused(elsewhere: Path, wrong: dict[str, bytes], told: str) -> None:
    write_archive(Path("wrong.zip"), wrong)
    with pytest.raises(UserError, match=f"wrong.zip: is not {NAME}.zip .*{told}.*fetch it again"):
        main(["spice", "--archive", "wrong.zip"])
    assert not (FOLDER / "lib" / MODELS).exists()


@pytest.mark.slow
def test_spice_of_the_same_and_of_another_caption() -> None:
    """Needs what `python -m src.prepare spice` fetches."""
    if not (FOLDER / "lib" / MODELS).is_file():
        pytest.skip("python -m src.prepare spice was not run here")
    found = spice(["a red car on a street", "a dog"], [["a red car on a street"], ["two people dance"]])
    assert found == pytest.approx(np.array([1.0, 0.0]))
