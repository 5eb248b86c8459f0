"""The command that opens the MLflow UI or sends what a run could not send."""

from pathlib import Path

import pytest

from src.common.errors import UserError
from src.ui import main
from tests.servers import free_port


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql://127.0.0.1:1/x"])
def test_the_ui_of_what_does_not_answer_is_the_users_error(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=f"MLflow at {uri} does not answer") as caught:
        main(["--port", str(free_port())])
    assert "\n" not in str(caught.value)


def test_only_a_run_can_be_sent(elsewhere: Path) -> None:
    for folder in (elsewhere, elsewhere / "absent"):
        with pytest.raises(UserError, match=f"{folder}: holds no run"):
            main(["--send", str(folder)])
    assert not list(elsewhere.iterdir())
