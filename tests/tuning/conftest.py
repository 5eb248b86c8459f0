"""Ray, started once for all tests of this folder that search or train in this process."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_started() -> Iterator[None]:
    """A session of Ray whose workers find MLflow in the folder that a command is started in."""
    from src.common.ray_cluster import ray_session

    with ray_session(""):
        yield
