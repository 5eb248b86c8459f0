"""The JSON of each image."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from src.evaluate import main

SCHEMA = Path(__file__).parents[2] / "docs/details.schema.json"


def test_details_follow_their_schema(model: Path) -> None:
    words = ["--details", "d.json", "--attention", "true", "--deciles", "true", "--json", "s.json", "--meteor", "false"]
    assert main(["--model", str(model), *words]) == 0
    found, kept = (json.loads(Path(name).read_text(encoding="utf-8")) for name in ("d.json", "s.json"))
    jsonschema.validate(found, json.loads(SCHEMA.read_text(encoding="utf-8")))
    for photo, row in zip(found["photos"], kept["photos"], strict=True):
        assert [photo["name"], photo["mos"], photo["mos_predicted"]] == [row["names"], row["mos_true"], row["mos"]]
        assert photo["references"] == row["references"]
        assert photo["scores"].get("cider_d") == row["cider_d"]
        assert " ".join(photo["attention"]["words"]) == photo["caption"] == row["captions"]
        weights = np.array(photo["attention"]["weights"])
        assert len(weights) == len(photo["attention"]["words"])
        assert weights.sum(1) == pytest.approx(1.0, abs=0.01)
    tenths = list(kept["deciles"].values())
    assert [one["photos"]["value"] for one in tenths] == [1.0] * 4
    errors = {photo["mos"]: photo["scores"]["mos_error"] for photo in found["photos"] if photo["mos"] is not None}
    assert [one["bias"]["value"] for one in tenths] == pytest.approx([errors[mos] for mos in sorted(errors)])
