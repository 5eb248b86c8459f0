"""Shared by all tests: small thread counts, marks that the default run skips, one Java process a session."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

REASONS = {
    "real": "needs the real data in data/real: make test-all",
    "gpu": "needs a CUDA device: make test-all",
    "browser": "needs a headless browser: make test-all",
    "slow": "takes minutes: make test-all",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--everything", action="store_true", help="also run tests marked real, gpu, browser and slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips marked tests with their reason; --everything runs those whose need is met."""
    everything = config.getoption("--everything")
    for item in items:
        for mark, reason in REASONS.items():
            if item.get_closest_marker(mark) and not (everything and met(mark)):
                item.add_marker(pytest.mark.skip(reason=reason))


def met(mark: str) -> bool:
    """Whether this machine has what a mark asks for."""
    if mark == "real":
        return Path("data/real/flickr8k").is_dir() and Path("data/real/samsung_like").is_dir()
    if mark == "gpu":
        import torch

        return torch.cuda.is_available()
    return True


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, so that a command's runs, caches and database stay out of the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path
