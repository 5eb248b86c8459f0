"""The JSON of each image."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from src.data.image_io import load_image
from src.data.transforms import resize_for_task
from src.evaluate import main
from src.evaluation import per_image_json
from src.models.model_folder import load_model_folder

SCHEMA = Path(__file__).parents[2] / "docs/details.schema.json"


def test_details_follow_their_schema(model: Path) -> None:
    words = [
        "--details",
        "d.json",
        "--attention",
        "true",
        "--embeddings",
        "true",
        "--deciles",
        "true",
        "--json",
        "s.json",
        "--meteor",
        "false",
    ]
    assert main(["--model", str(model), *words]) == 0
    found, kept = (json.loads(Path(name).read_text(encoding="utf-8")) for name in ("d.json", "s.json"))
    jsonschema.validate(found, json.loads(SCHEMA.read_text(encoding="utf-8")))
    backbone = load_model_folder(model).model.backbone
    for photo, row in zip(found["photos"], kept["photos"], strict=True):
        assert [photo["name"], photo["mos"], photo["mos_predicted"]] == [row["names"], row["mos_true"], row["mos"]]
        assert photo["references"] == row["references"]
        assert photo["scores"].get("cider_d") == row["cider_d"]
        assert " ".join(photo["attention"]["words"]) == photo["caption"] == row["captions"]
        weights = np.array(photo["attention"]["weights"])
        assert len(weights) == len(photo["attention"]["words"])
        assert weights.sum(1) == pytest.approx(1.0, abs=0.01)
        image = resize_for_task(load_image(Path(photo["path"])), 32)
        with torch.inference_mode():
            grid = backbone(torch.from_numpy(image).permute(2, 0, 1)[None] / 255).grid
        assert photo["embedding"] == pytest.approx(grid[0].mean(0).tolist(), abs=0.02)
    tenths = list(kept["deciles"].values())
    assert [one["photos"]["value"] for one in tenths] == [1.0] * 4
    errors = {photo["mos"]: photo["scores"]["mos_error"] for photo in found["photos"] if photo["mos"] is not None}
    assert [one["bias"]["value"] for one in tenths] == pytest.approx([errors[mos] for mos in sorted(errors)])


def test_embeddings_of_many_photos_lie_beside_the_details(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--model", str(model), "--embeddings", "true", "--meteor", "false", "--details"]
    assert main([*words, "few.json"]) == 0
    monkeypatch.setattr(per_image_json, "MAX_INLINE", 3)
    assert main([*words, "many.json"]) == 0
    few, many = (json.loads(Path(name).read_text(encoding="utf-8")) for name in ("few.json", "many.json"))
    jsonschema.validate(many, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert many["embeddings"] == "many.npz"
    stored = np.load("many.npz")
    assert stored["names"].tolist() == [photo["name"] for photo in many["photos"]]
    assert stored["sources"].tolist() == [photo["source"] for photo in many["photos"]]
    assert stored["embeddings"] == pytest.approx(np.array([photo["embedding"] for photo in few["photos"]]), abs=1e-3)
    assert all("embedding" not in photo for photo in many["photos"])
