"""The printed gain of a learned blend: real where members differ, none where labels mean nothing."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import UserError
from src.ensemble import main
from src.evaluation.learned_blend import DIFFERENCE, LEARNED, MEAN, learn_blend
from src.inference.blend_weights import fit_variant, quality
from src.tracking.held_out import HeldOutPredictions, from_columns
from src.tracking.run_group import OOF_COLUMNS
from tests.tiny import make_model, tiny_config, write_photo

PHOTOS = 40


def held_out(mos: np.ndarray, true: np.ndarray, first: int = 0) -> HeldOutPredictions:
    names = [f"{first + i:05}" for i in range(len(mos))]
    columns = {"sources": ["challenge"] * len(mos), "names": names, "captions": [""] * len(mos)}
    return from_columns({**columns, "mos": mos, "mos_true": true, "references": [[]] * len(mos)})


def synthetic(noise: list[float], images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.normal(5.5, 0.8, images)
    return true + rng.normal(size=(len(noise), images)) * np.array(noise)[:, None], true


def members(values: np.ndarray, true: np.ndarray) -> dict[str, HeldOutPredictions]:
    return {f"m{i}": held_out(row, true) for i, row in enumerate(values)}


def test_a_real_gain_is_printed() -> None:
    values, true = synthetic([0.4, 1.5, 1.5], images=1000)
    blend = learn_blend(members(values, true))
    gain = blend.scores[DIFFERENCE]["quality"]
    assert gain.low is not None
    assert gain.low > 0.02
    assert gain.value == pytest.approx(quality(blend.mos, true) - quality(values.mean(axis=0), true))
    text = str(blend)
    assert re.search(r"quality +0\.\d{4} \[.+\] +0\.\d{4} \[.+\] +0\.\d{4} \[", text), text
    assert "1,000 photos" in text


def test_the_gain_vanishes_with_permuted_labels() -> None:
    """Of 12 members without any information the learned weights fit the labels they saw, and gain nothing by it."""
    values, true = synthetic([1.0] * 12, images=1500, seed=1)
    permuted = np.random.default_rng(2).permutation(true)
    seen_gain = quality(fit_variant(values, permuted, "nnls", "mean").blend(values), permuted)
    assert seen_gain > 0.04  # scored on what it was learned from, it would look like a gain
    scores = learn_blend(members(values, permuted)).scores
    gain = scores[DIFFERENCE]["plcc"]
    assert gain.low is not None
    assert gain.high is not None
    assert gain.low <= 0 <= gain.high
    assert scores[LEARNED]["quality"].value - scores[MEAN]["quality"].value < 0.01


def test_the_images_common_to_all_members_count() -> None:
    values, true = synthetic([0.5, 0.5], images=100)
    two = {"a": held_out(values[0], true), "b": held_out(values[1, 30:], true[30:], first=30)}
    two["captions"] = held_out(np.full(100, np.nan), true)
    blend = learn_blend(two)
    assert blend.names == ["a", "b"]
    assert blend.images == [("challenge", f"{i:05}") for i in range(30, 100)]
    np.testing.assert_array_equal(blend.mos_true, true[30:])


@pytest.mark.parametrize(
    ("first", "scale", "message"),
    [
        (80, 1.0, "--learn: 20 photos are held out by all models .a: 100, b: 100., too few; train all on the folds"),
        (0, 10.0, r"--learn: mos of photo 00000 is [\d.]+ for a and [\d.]+ for b; name models of the same labels"),
    ],
)
def test_members_that_do_not_fit(first: int, scale: float, message: str) -> None:
    values, true = synthetic([0.5, 0.5], images=100)
    other = held_out(values[1], scale * true, first)
    with pytest.raises(UserError, match=message):
        learn_blend({"a": held_out(values[0], true), "b": other})
    with pytest.raises(UserError, match="--learn: 1 of the models predict mos; name at least two"):
        learn_blend({"a": held_out(values[0], true)})


@pytest.fixture
def project(elsewhere: Path) -> Path:
    """Photos, a group of two runs with oof.csv, a run with answers.json, and a bare model folder with its data."""
    rng = np.random.default_rng(0)
    names = [f"{i:05}" for i in range(PHOTOS)]
    true = rng.normal(5.5, 0.8, PHOTOS)
    rows = ["img_name,img_path,mos,comments"]
    for i, name in enumerate(names):
        write_photo(elsewhere / f"data/train/{name}.jpg", seed=i)
        rows.append(f"{name},./train/{name}.jpg,{true[i]:.4f},")
    (elsewhere / "data/train.csv").write_text("\n".join(rows) + "\n")
    (elsewhere / "test.csv").write_text(
        "\n".join(["img_name,img_path", *(f"{n},data/train/{n}.jpg" for n in names[:6])])
    )
    config = tiny_config(captions=False)
    for seed, folder in enumerate(["runs/g-fold0", "runs/g-fold1", "runs/plain"]):
        make_model(elsewhere / folder / "model", config, seed=seed)
    group = {"format": 1, "name": "g", "folds": 2, "seeds": 1, "members": ["g-fold0", "g-fold1"], "refit": ""}
    (elsewhere / "runs/g").mkdir()
    (elsewhere / "runs/g/group.json").write_text(json.dumps(group))
    oof = [["challenge", n, i % 2, 0, true[i] + 0.3 * rng.normal(), "", round(true[i], 4)] for i, n in enumerate(names)]
    with (elsewhere / "runs/g/oof.csv").open("w", newline="") as file:
        csv.writer(file).writerows([OOF_COLUMNS, *oof])
    plain = held_out(true + 0.6 * rng.normal(size=PHOTOS), true.round(4))
    answers = {"names": names, "sources": ["challenge"] * PHOTOS, "mos": plain.mos.tolist()}
    answers |= {"mos_true": plain.mos_true.tolist(), "captions": plain.captions, "references": plain.references}
    (elsewhere / "runs/plain/answers.json").write_text(json.dumps(answers))
    return elsewhere


def test_the_command_writes_weights_and_held_out_predictions(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--models", "g", "plain", "--data", "test.csv", "--output", "submissions/joint.csv"]
    assert main([*words, "--learn"]) == 0
    assert "blend of 40 photos that no member was trained on" in capsys.readouterr().out
    facts = json.loads(Path("submissions/joint.json").read_text())
    weights = facts["blend"]["weights"]
    assert list(weights) == ["g", "plain"]
    assert facts["join"] in ("mean", "rank")
    assert facts["out_of_fold_scores"]["quality"]["value"] > 0.5
    blend = Path("submissions/joint.oof.csv").read_text().splitlines()
    assert blend[0] == ",".join(OOF_COLUMNS)
    assert len(blend) == PHOTOS + 1
    for extra, message in [(["--mos", "mean"], "leave --mos and --outliers out"), (["--outliers", "1.5"], "--learn")]:
        with pytest.raises(UserError, match=message):
            main([*words, "--learn", *extra])
    with pytest.raises(UserError, match="--models g: is given twice"):
        main([*words, "--models", "g", "g", "--learn"])


def test_a_groups_models_count_as_one_member(project: Path) -> None:
    """With all weight on the plain run's half, the group's two models share the other half."""
    words = ["--data", "test.csv", "--output", "joint.csv", "--models"]
    parts = {}
    for names in (["g-fold0", "g-fold1"], ["plain", "g"], ["plain", "plain"]):
        assert main([*words, *names]) == 0
        parts[names[0], names[1]] = mos_of(Path("joint.csv"))
    group, plain = parts["g-fold0", "g-fold1"], parts["plain", "plain"]
    np.testing.assert_allclose(parts["plain", "g"], (2 * group + plain) / 3, atol=2e-6)
    assert main([*words, "g", "plain", "--learn"]) == 0
    facts = json.loads(Path("joint.json").read_text())
    if facts["join"] == "mean":
        share = facts["blend"]["weights"]["g"]
        np.testing.assert_allclose(mos_of(Path("joint.csv")), share * group + (1 - share) * plain, atol=2e-6)


def mos_of(path: Path) -> np.ndarray:
    with path.open(newline="") as file:
        return np.array([float(row["mos"]) for row in csv.DictReader(file)])


def test_a_bare_model_folder_predicts_its_own_validation_part(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        config = tiny_config(captions=False)
        config.data.val, config.data.split_dir = 0.9, "cache/splits"
        make_model(project / name, config, seed=len(name))
    assert main(["--models", "one", "g", "--learn", "--data", "test.csv", "--output", "joint.csv"]) == 0
    assert "blend of 36 photos" in capsys.readouterr().out
