"""Joining submissions: by hand-made numbers, by pycocoevalcap, and through the command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocoevalcap.cider.cider import Cider
from scipy.stats import spearmanr

from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.ensemble import main
from src.inference.blending import blend_mos, caption_agreement, consensus_captions, mean_without_outliers
from src.inference.ensemble import EnsembleDecoder
from src.inference.ensemble_submission import blend_submissions
from src.inference.submission import Submission, read_submission, write_submission
from src.models.model_folder import load_model_folder
from src.predict import main as predict
from tests.tiny import META, make_model, tiny_config, write_photo

NAMES = ["0213074526", "1e5", "00", "with space", "사진"]
WORDS = [
    "a",
    "photo",
    "with",
    "soft",
    "light",
    "sharp",
    "dull",
    "noisy",
    "colours",
    "and",
    "a",
    "calm",
    "mood",
    "very",
    "dark",
    "bright",
    "blurry",
    "scene",
]


def captions(members: int, photos: int, seed: int = 0) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [[" ".join(rng.choice(WORDS, size=rng.integers(4, 9))) for _ in range(photos)] for _ in range(members)]


def test_agreement_is_mean_cider_d_against_the_others() -> None:
    members = captions(4, 25)
    found = caption_agreement(members)
    for i, own in enumerate(members):
        others = {p: [m[p] for j, m in enumerate(members) if j != i] for p in range(25)}
        _, expected = Cider().compute_score(others, {p: [own[p]] for p in range(25)})
        np.testing.assert_allclose(found[i], expected, atol=1e-9)


def test_vote_takes_the_middle_of_the_road() -> None:
    photos = 12
    common = [f"a sharp photo of scene number {i} with soft light" for i in range(photos)]
    odd = ["noisy dull mood" for _ in range(photos)]
    near = [text.replace("soft", "bright") for text in common]
    assert consensus_captions([odd, common, near, common]) == common
    assert consensus_captions([odd[:3], near[:3], common[:3], common[:3]]) == common[:3]  # ROUGE-L: too few for CIDEr-D
    assert consensus_captions([odd, common]) == odd  # two cannot outvote each other: the first
    assert consensus_captions([odd[:1], odd[:1], odd[:1]]) == odd[:1]


def test_mean_and_outliers() -> None:
    values = np.array([[1.0, 5.0], [2.0, 5.1], [3.0, 5.2], [2.0, 9.9]])
    np.testing.assert_allclose(blend_mos(values), [2.0, 6.3])
    np.testing.assert_allclose(mean_without_outliers(values, 1.5), [2.0, 5.1])
    np.testing.assert_allclose(mean_without_outliers(np.array([[1.0], [3.0]]), 0.1), [2.0])


def test_ranks_join_members_of_different_scales() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(5, 1, 200)
    stretched = np.stack([truth, np.exp(truth), -1 / truth.clip(1)])
    joined = blend_mos(stretched, "rank")
    assert spearmanr(joined, truth).statistic == pytest.approx(1)
    same = np.stack([truth, truth])
    np.testing.assert_allclose(blend_mos(same, "rank"), truth)


def test_members_may_be_in_another_order_or_lack_a_column() -> None:
    first = Submission(NAMES, [1.0, 2.0, 3.0, 4.0, 5.0])
    second = Submission(NAMES[::-1], [6.0, 5.0, 4.0, 3.0, 2.0], [f"c{i}" for i in range(5)])
    joined = blend_submissions([first, second], ["a", "b"])
    assert joined == Submission(NAMES, [1.5, 2.5, 3.5, 4.5, 5.5], ["c4", "c3", "c2", "c1", "c0"])


def test_command_joins_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"{i}.csv" for i in range(3)]
    for i, path in enumerate(paths):
        write_submission(path, Submission(NAMES, [4.0 + i] * 5, captions(3, 5)[i]), {"run": f"run{i}"})
    output = tmp_path / "joined.csv"
    assert main(["--submissions", *map(str, paths), "--output", str(output)]) == 0
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["img_name"] for row in rows] == NAMES
    assert {float(row["mos"]) for row in rows} == {5.0}
    assert all(row["comments"] in [captions(3, 5)[m][i] for m in range(3)] for i, row in enumerate(rows))
    facts = json.loads(output.with_suffix(".json").read_text())
    assert [member["run"] for member in facts["members"]] == ["run0", "run1", "run2"]
    assert "joined.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "message"),
    [(["0213074526", "100000", "00", "with space", "사진"], "lacks 1 photos.*1e5"), ([*NAMES, "more"], "more")],
)
def test_other_photos_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    a, b, output = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"
    write_submission(a, Submission(NAMES, [5.0] * 5), {})
    write_submission(b, Submission(names, [5.0] * len(names)), {})
    output.write_text("old")
    with pytest.raises(UserError, match=message):
        main(["--submissions", str(a), str(b), "--output", str(output)])
    assert output.read_text() == "old"


def test_bad_options(tmp_path: Path) -> None:
    a = tmp_path / "a.csv"
    write_submission(a, Submission(NAMES, [5.0] * 5), {})
    output = ["--output", str(tmp_path / "o.csv")]
    bad = [[], ["--submissions", str(a)], ["--submissions", str(a), str(a), "--outliers", "-1"], ["--mos", "median"]]
    for words in bad:
        with pytest.raises(UserError):
            main([*words, *output])


def test_a_member_that_was_changed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    write_submission(a, Submission(NAMES, [5.0] * 5), {})
    write_submission(b, Submission(NAMES, [6.0] * 5), {})
    b.write_text(b.read_text().replace("6.0", "7.0"))
    main(["--submissions", str(a), str(b), "--output", str(tmp_path / "c.csv")])
    assert str(b) in capsys.readouterr().err
    assert read_submission(tmp_path / "c.csv").mos == [6.0] * 5


@pytest.fixture
def photos(elsewhere: Path) -> Path:
    for i, name in enumerate(NAMES):
        write_photo(elsewhere / "photos" / f"{name}.jpg", seed=i)
    (elsewhere / "test.csv").write_text("\n".join(["img_name", *NAMES]), encoding="utf-8")
    return elsewhere


def alone(model: Path, output: str) -> Submission:
    assert predict(["--model", str(model), "--data", "test.csv", "--images", "photos", "--output", output]) == 0
    return read_submission(Path(output))


def together(*words: str) -> Submission:
    code = main(["--data", "test.csv", "--images", "photos", "--output", "joint.csv", "--models", *words])
    assert code == 0
    return read_submission(Path("joint.csv"))


def test_models_that_share_words(photos: Path) -> None:
    a, b = make_model(photos / "a", seed=1), make_model(photos / "b", seed=2)
    one, other = alone(a, "a.csv"), alone(b, "b.csv")
    joined = together("a", "b")
    assert joined.mos == pytest.approx(np.mean([one.mos, other.mos], axis=0), abs=2e-6)
    assert json.loads(Path("joint.json").read_text())["comments"] == "mean probabilities"
    assert together("a", "a").comments == one.comments
    assert joined.comments != one.comments


def test_joint_step_is_the_mean_probability(photos: Path) -> None:
    models = [load_model_folder(make_model(photos / name, seed=seed)).model for name, seed in (("a", 1), ("b", 2))]
    grids = [torch.rand(3, 4, one.backbone.grid_channels) for one in models]
    joint = EnsembleDecoder([one.decoder for one in models if one.decoder], grids)
    tokens = torch.tensor([3, 5, 6])
    with torch.inference_mode():
        logp, state, _ = joint.step(joint.start(grids[0]), tokens)
        again, _, _ = joint.step(state.select(torch.tensor([2, 0])), tokens[:2])
        first = [one.decoder.step(one.decoder.start(g), tokens) for one, g in zip(models, grids, strict=True)]
        second = [one.decoder.step(f[1], tokens[[1, 0, 0]]) for one, f in zip(models, first, strict=True)]
    expected = torch.stack([step[0].softmax(1) for step in first]).mean(0)
    torch.testing.assert_close(logp.exp(), expected)
    selected = torch.stack([step[0].softmax(1) for step in second]).mean(0)
    torch.testing.assert_close(again.exp(), selected[[2, 0]])


def test_models_of_other_words_vote(photos: Path) -> None:
    config = tiny_config()
    config.data.tokenizer.min_count = 2
    a, b = make_model(photos / "a", seed=1), make_model(photos / "b", config, seed=2)
    one, other = alone(a, "a.csv"), alone(b, "b.csv")
    joined = together("a", "a", "b")
    assert joined.mos == pytest.approx((2 * np.array(one.mos) + other.mos) / 3, abs=2e-6)
    assert joined.comments == one.comments
    assert json.loads(Path("joint.json").read_text())["comments"] == "consensus"


def test_one_models_mos_and_the_others_captions(photos: Path) -> None:
    a = make_model(photos / "a", tiny_config(captions=False), seed=1)
    b = make_model(photos / "b", tiny_config(mos=False), seed=2)
    joined = together("a", "b")
    assert joined.mos == alone(a, "a.csv").mos
    assert joined.comments == alone(b, "b.csv").comments


def test_a_style_is_for_the_models_that_write_captions(photos: Path) -> None:
    names = ("challenge", "flickr8k")
    sources = [SourceConfig(format="samsung", name=names[0]), SourceConfig(format="flickr8k", name=names[1])]
    make_model(photos / "a", tiny_config(captions=False), seed=1)
    make_model(photos / "b", tiny_config(mos=False, sources=sources), styles=names, seed=4)
    assert together("a", "b").comments != together("a", "b", "--style", "flickr8k").comments
    assert json.loads(Path("joint.json").read_text())["style"] == "flickr8k"
    with pytest.raises(UserError, match=r"poetry.*challenge, flickr8k"):
        together("a", "b", "--style", "poetry")
    with pytest.raises(UserError, match="--style: no captions are written; leave it out"):
        together("a", "a", "--style", "flickr8k")


def test_an_unreadable_photo_of_models(photos: Path) -> None:
    make_model(photos / "a", seed=1)
    make_model(photos / "b", seed=2, mos_mean=6.5)
    Path("photos/1e5.jpg").write_bytes(b"no photo")
    words = ["--data", "test.csv", "--images", "photos", "--output", "joint.csv", "--models", "a", "b"]
    assert main(words) == 3
    joined = read_submission(Path("joint.csv"))
    assert joined.names == NAMES
    assert joined.mos is not None
    assert joined.comments is not None
    assert joined.mos[1] == 6.0
    assert [text == META["comment"] for text in joined.comments] == [False, True, False, False, False]
    assert json.loads(Path("joint.json").read_text())["fallbacks"] == ["1e5"]
