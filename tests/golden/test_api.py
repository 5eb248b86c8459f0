"""The HTTP API: its OpenAPI document and its responses to a demo photo and to refused requests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from src.serving.api import make_app
from src.serving.server import load_served_model
from tests.golden.golden import compare_json


@pytest.fixture(scope="module")
def client(workplace: Path) -> Iterator[TestClient]:
    with TestClient(
        make_app({name: load_served_model(str(workplace / name)) for name in ("first", "second")})
    ) as client:
        yield client


def test_openapi(client: TestClient) -> None:
    compare_json("api/openapi.json", client.get("/openapi.json").json())


def test_responses(client: TestClient) -> None:
    photo = ("photos", ("demo.jpg", Path("data/challenge/test/demo_0041.jpg").read_bytes()))
    broken = ("photos", ("broken.jpg", b"no photo"))
    requests = {
        "photos": ([photo, broken], {}),
        "beam": ([photo], {"model": "second", "beams": 2, "beam": 4, "style": "flickr8k", "attention": True}),
        "unknown model": ([photo], {"model": "third"}),
        "unknown style": ([photo], {"style": "poetry"}),
        "many photos": ([photo] * 17, {}),
    }
    responses = {name: client.post("/predict", files=files, params=query) for name, (files, query) in requests.items()}
    found = {name: {"status": one.status_code, "body": one.json()} for name, one in responses.items()}
    compare_json("api/responses.json", found | {"models": client.get("/models").json()}, 1e-4, 2e-4)
