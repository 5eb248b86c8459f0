"""evaluate's JSON files: of a stored submission, where only scores are computed, and of a model on the demo.

Without METEOR, whose Java process takes seconds to start.
"""

import json
from pathlib import Path

from src.evaluate import main
from tests.golden.golden import compare_json

SUBMISSION = ["--predictions", "submissions/beam.csv", "--truth", "data/challenge/test_answers.csv"]
FILES = ["--json", "out/scores.json", "--details", "out/details.json", "--meteor", "false"]


def read(path: str) -> dict:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_scores_of_a_submission() -> None:
    rivals = ["--against", "submissions/greedy.csv", "submissions/nucleus.csv", "--deciles", "true", "--boards", "20"]
    assert main([*SUBMISSION, *rivals, *FILES]) == 0
    compare_json("scores/submission.json", read("out/scores.json"))
    compare_json("scores/submission_details.json", read("out/details.json"))


def test_scores_of_a_model() -> None:
    assert main(["--model", "first", "--attention", "true", *FILES]) == 0
    compare_json("scores/model.json", read("out/scores.json"), relative=1e-4, absolute=2e-4)
    compare_json("scores/model_details.json", read("out/details.json"), relative=1e-4, absolute=2e-4)
