"""Commands that predict start without the packages that train and search: looked at in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import make_model, write_photo

ROOT = Path(__file__).parents[1]
TRAINING_PACKAGES = ["lightning", "ray", "optuna"]
CHECK = f"""
import sys
print("loaded:", [name for name in {TRAINING_PACKAGES} if name in sys.modules])
"""
HELP = """
import contextlib
import src.{command}
with contextlib.suppress(SystemExit):
    src.{command}.main(["--help"])
"""
WORK = {
    "predict": """
from src.predict import main
assert main(["--model", "model", "--data", "photos", "--output", "X.csv"]) == 0
assert main(["--model", "model", "--image", "photos/0.jpg"]) == 0
""",
    "export": """
from src.export import main
assert main(["--model", "model", "--output", "onnx", "--check", "0"]) == 0
""",
    "serve": """
from pathlib import Path
from fastapi.testclient import TestClient
from src.serve import make_options
from src.serving.server import load_served_models, make_app, make_request_limits
options = make_options().parse_args(["--model", "model"])
with TestClient(make_app(load_served_models(options), make_request_limits(options))) as client:
    response = client.post("/predict", files={"photos": Path("photos/0.jpg").read_bytes()})
    assert response.status_code == 200, response.text
""",
    "app": """
import src.app
from streamlit.testing.v1 import AppTest

def script():
    from src.serving.page.main import show_page
    from src.serving.page_server import PageOptions
    show_page(PageOptions(("model",), ("photos",)))

page = AppTest.from_function(script, default_timeout=120).run()
assert not page.exception, page.exception
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and two photos."""
    path = tmp_path_factory.mktemp("imports")
    make_model(path / "model")
    for number in range(2):
        write_photo(path / "photos" / f"{number}.jpg", number)
    return path


@pytest.mark.parametrize("command", WORK)
def test_a_command_that_predicts_loads_no_package_of_training(command: str, folder: Path) -> None:
    script = folder / f"{command}_script.py"  # a file, since Streamlit reads its page's source
    script.write_text(HELP.format(command=command) + CHECK + WORK[command] + CHECK)
    done = subprocess.run(
        [sys.executable, script], cwd=folder, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("loaded:")] == ["loaded: []"] * 2


def test_the_ledger_starts_without_torch(folder: Path) -> None:
    script = "import sys; from src.submissions import main; assert main([]) == 0; assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def environment() -> dict[str, str]:
    """This process's environment, with the repository on the path and no tracking server."""
    variables = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return {**variables, "PYTHONPATH": str(ROOT), "NO_ALBUMENTATIONS_UPDATE": "1"}
