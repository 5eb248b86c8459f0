"""Hold-outs of far clusters: on planted clusters, on tiny photos through the commands, and beside a random one."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from src.common.errors import UserError
from src.config.loader import load_config
from src.data.labels import load_training_samples
from src.data.sources import load_part
from src.evaluate import main as evaluate
from src.inference.shifted_split import far_images
from src.prepare import main as prepare
from src.train import main as train
from tests.training.test_run import PHOTOS, QUALITY, experiment


def test_the_far_cluster_is_held_out_whole_and_the_size_is_that_of_the_share() -> None:
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 1, (450, 8)), rng.normal(0, 0.2, (50, 8)) + 12
    vectors = rng.permutation(np.concatenate([near, far])).astype(np.float32)
    held = far_images(vectors, 0.1, seed=3)
    np.testing.assert_array_equal(held, vectors.mean(axis=1) > 6)
    np.testing.assert_array_equal(far_images(vectors, 0.1, seed=3), held)
    more = far_images(vectors, 0.2, seed=3)
    assert more[held].all()
    assert 100 <= more.sum() <= 120
    middle = vectors[~more].mean(axis=0)
    distance = np.linalg.norm(vectors - middle, axis=1)
    assert distance[more].mean() > distance[~more].mean()


def test_few_images_have_a_hold_out_too() -> None:
    for count in (2, 3, 5, 9):
        vectors = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
        assert 0 < far_images(vectors, 0.1, 0).sum() < count


@pytest.fixture
def file(elsewhere: Path) -> str:
    """A tiny experiment whose split is shifted."""
    path = experiment(elsewhere, epochs=1, checkpoint_steps=0)
    tree = yaml.safe_load(path.read_text())
    tree["data"]["sources"][0]["split"] = "shifted"
    Path("far.yaml").write_text(yaml.safe_dump(tree))
    return "far.yaml"


def parts(file: str, **overrides: float) -> dict[str, list[str]]:
    config = load_config(file, {f"data.{key}": value for key, value in overrides.items()})
    names = {part: [s.name for s in load_part(config, part)] for part in ("val", *(["test"] if overrides else []))}
    return {**names, "train": [sample.name for sample in load_training_samples(config)]}


def test_the_split_is_made_once_and_covers_all(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="split shifted of challenge is not made yet; make it with python -m src.prep"):
        load_part(load_config(file), "val")
    words = ["split", "--config", file]
    assert prepare(words) == 0
    assert "wrote cache/splits/seed0_" in capsys.readouterr().out
    [table] = Path("cache/splits").glob("shifted0_*.csv")
    before = table.stat().st_mtime_ns
    first = parts(file)
    assert sorted([*first["train"], *first["val"]]) == [f"{i:04}" for i in range(PHOTOS)]
    assert 0 < len(first["val"]) <= 1.2 * 0.33 * PHOTOS
    with table.open(newline="") as lines:
        assert {row["img_name"] for row in csv.DictReader(lines) if row["part"] == "val"} == set(first["val"])
    assert prepare(words) == 0
    assert table.stat().st_mtime_ns == before
    assert prepare([*words, "--data.test", "0.25"]) == 0
    second = parts(file, test=0.25)
    assert second["val"] == first["val"]
    assert len(second["test"]) == PHOTOS / 4
    assert set(second["test"]) <= set(first["train"])
    with pytest.raises(UserError, match="data.val: is 0, so split shifted"):
        prepare([*words, "--data.val", "0"])


def test_evaluate_puts_a_shifted_hold_out_beside_a_random_one(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["--config", file, *QUALITY, "--track.name", "far"]) == 0
    assert train(["--config", "tiny.yaml", *QUALITY, "--track.name", "near"]) == 0
    results = {name: json.loads(Path(f"runs/{name}/result.json").read_text())["scores"] for name in ("near", "far")}
    capsys.readouterr()
    assert evaluate(["--model", "near", "far", "--json", "s.json"]) == 0
    out = capsys.readouterr().out
    scores = json.loads(Path("s.json").read_text())["scores"]
    for name, result in results.items():
        assert scores[f"{name} alone"]["rmse"]["value"] == pytest.approx(result["rmse"]["value"], rel=1e-3)
    assert "near alone" in out
    assert "far alone" in out
    held = len(parts("tiny.yaml")["val"]), len(parts(file)["val"])
    assert f"near on {held[0]} photos" in out
    assert f"far on {held[1]} photos" in out
