"""Submissions of predict and ensemble for the demo's test photos."""

import json
from pathlib import Path

import pytest

from src.ensemble import main as ensemble
from src.predict import main as predict
from tests.golden.golden import assert_same_submission, compare_json, compare_submission

TEST = ["--data", "data/challenge/test.csv"]
FLICKR = ["--data", "data/flickr8k/Flickr_8k.testImages.txt", "--images", "data/flickr8k/Flicker8k_Dataset"]
STORED = [f"submissions/{name}.csv" for name in ("nucleus", "greedy", "beam")]
PREDICTIONS = {
    "beam": ["first", *TEST],
    "greedy": ["first", *TEST, "--generate.method", "greedy"],
    "nucleus": ["first", *TEST, "--generate.method", "nucleus", "--generate.seed", "7"],
    "without_flip": ["unflipped", *TEST],
    "flickr_captions": ["second", *FLICKR, "--style", "flickr8k", "--columns", "img_name,comments"],
}
ENSEMBLES = {
    "models": ["--models", "first", "second", *TEST],
    "model_ranks": ["--models", "first", "second", *TEST, "--mos", "rank", "--generate.method", "greedy"],
    "two_submissions": ["--submissions", *STORED[:2]],
    "three_submissions": ["--submissions", *STORED, "--outliers", "0.5"],
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions(name: str) -> None:
    assert predict(["--output", f"out/{name}.csv", "--model", *PREDICTIONS[name]]) == 0
    compare_submission(f"submissions/{name}.csv", Path(f"out/{name}.csv"))


def test_the_feature_store_gives_the_live_predictions() -> None:
    """mos within 0.15: the store's features are computed in bfloat16 on a CPU that is fast in it."""
    assert predict(["--output", "out/live.csv", "--model", *PREDICTIONS["beam"]]) == 0
    assert predict(["--output", "out/cached.csv", "--cache", "true", "--model", *PREDICTIONS["beam"]]) == 0
    assert_same_submission(*(Path(f"out/{name}.csv").read_text(encoding="utf-8") for name in ("cached", "live")), 0.15)


def test_the_origin_beside_a_submission() -> None:
    assert predict(["--output", "out/origin.csv", "--model", *PREDICTIONS["beam"]]) == 0
    compare_json("submissions/origin.json", json.loads(Path("out/origin.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ENSEMBLES)
def test_ensembles(name: str) -> None:
    assert ensemble(["--output", f"out/{name}.csv", *ENSEMBLES[name]]) == 0
    compare_submission(f"submissions/{name}.csv", Path(f"out/{name}.csv"))
