"""The API's models and limits from a command line: mistakes are named before a model is loaded."""

import re
import socket
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.serve import main, make_options
from src.serving.server import load_served_model, load_served_models
from src.tracking.run_registry import MODEL_FILES
from tests.tiny import make_model, tiny_config


@pytest.fixture
def damaged(tmp_path: Path) -> str:
    """A model folder that is found and cannot be loaded."""
    for name in MODEL_FILES:
        (tmp_path / name).touch()
    return str(tmp_path)


def test_limits_that_leave_no_room_are_named(damaged: str) -> None:
    with pytest.raises(UserError, match="batch: is 0"):
        main(["--model", damaged, "--batch", "0"])
    with pytest.raises(UserError, match="--photos 9"):
        main(["--model", damaged, "--photos", "9", "--queue", "8"])


@pytest.mark.parametrize("host", ["127.0.0.1", "203.0.113.1", "a..b"])
def test_a_taken_port_is_named_before_the_model_is_loaded(
    host: str, damaged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(UserError, match=rf"^{re.escape(host)}:{port}: cannot listen.*--host or --port$"):
            main(["--model", damaged, "--host", host, "--port", port])
    assert not capsys.readouterr().out


def test_a_model_of_several_styles_is_served_in_the_style_of_the_command_line(tmp_path: Path) -> None:
    model = str(make_model(tmp_path / "two", styles=("first", "second")))
    with pytest.raises(UserError, match="^--style: choose.*first, second"):
        load_served_model(model)
    with pytest.raises(UserError, match="^--style third: .*first, second"):
        load_served_model(model, style="third")
    (served,) = load_served_models(make_options().parse_args(["--model", model, "--style", "second"])).values()
    assert served.options.style == "second"
    mute = str(make_model(tmp_path / "mute", tiny_config(captions=False)))
    with pytest.raises(UserError, match="^--style: no captions are written"):
        load_served_model(mute, style="second")
