"""A folder with two tiny models, for tests of reports."""

from pathlib import Path

import pytest

from src.config.schema import TrackConfig
from src.tracking.mlflow_tracker import Tracker
from tests.tiny import make_model, tiny_config
from tests.training.test_run import make_data


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny data and two models trained on it; `run` has a run in MLflow with some metrics."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        make_data(folder / "data")
        config = tiny_config()
        config.data.val = 0.9
        make_model(folder / "run/model", config)
        make_model(folder / "other/model", config, seed=1)
        with Tracker.start(TrackConfig(name="run"), Path("run"), {}, resources=0) as tracker:
            for step in range(3):
                tracker.log_metrics({"train/loss": 3.0 - step, "val/loss": 4.0 - step, "val/cider_d": step}, step)
                tracker.log_metrics({"system/cpu_percent": 50.0, "system/memory_gb": 1.0 + step}, step * 10)
    return folder
