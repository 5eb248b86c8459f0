"""Plug-ins are found by file name, in the package and in folders of SRC_PLUGINS."""

from pathlib import Path

import pytest

from src.common.errors import UserError
from src.common.plugins import VARIABLE, load_plugin, plugin_names

FORMATS = "src.data.formats"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of further formats."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "data/formats").mkdir(parents=True)
    return tmp_path / "data/formats"


def test_a_file_of_the_package_is_a_plugin() -> None:
    assert {"samsung", "coco"} <= set(plugin_names(FORMATS))
    assert "base" not in plugin_names(FORMATS)
    assert load_plugin(FORMATS, "samsung", "format").__name__ == "src.data.formats.samsung"


def test_a_file_of_another_folder_is_a_plugin(folder: Path) -> None:
    (folder / "mine_of_test.py").write_text("ANSWER = 42\n")
    (folder / "_helper.py").write_text("")
    assert "mine_of_test" in plugin_names(FORMATS)
    assert "_helper" not in plugin_names(FORMATS)
    assert load_plugin(FORMATS, "mine_of_test", "format").ANSWER == 42


def test_a_missing_plugin_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"^data\.format: there is no nowhere; choose one of .*samsung"):
        load_plugin(FORMATS, "nowhere", "data.format")
    with pytest.raises(UserError, match=r"^data\.format: there is no samsun; did you mean samsung\?$"):
        load_plugin(FORMATS, "samsun", "data.format")


def test_a_folder_that_the_variable_no_longer_names_is_forgotten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine_for_now.py").write_text("")
    assert "mine_for_now" in plugin_names(FORMATS)
    monkeypatch.delenv(VARIABLE)
    assert "mine_for_now" not in plugin_names(FORMATS)


def test_an_error_in_a_plugin_is_raised(folder: Path) -> None:
    (folder / "broken_of_test.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        load_plugin(FORMATS, "broken_of_test", "format")
