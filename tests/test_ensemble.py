"""Joining submissions: by hand-made numbers, by pycocoevalcap, and through the command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider
from scipy.stats import spearmanr

from src.ensemble import agreement, average, join, join_mos, main, vote
from src.errors import UserError
from src.submission import Submission, read, write

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
    found = agreement(members)
    for i, own in enumerate(members):
        others = {p: [m[p] for j, m in enumerate(members) if j != i] for p in range(25)}
        _, expected = Cider().compute_score(others, {p: [own[p]] for p in range(25)})
        np.testing.assert_allclose(found[i], expected, atol=1e-9)


def test_vote_takes_the_middle_of_the_road() -> None:
    photos = 12
    common = [f"a sharp photo of scene number {i} with soft light" for i in range(photos)]
    odd = ["noisy dull mood" for _ in range(photos)]
    near = [text.replace("soft", "bright") for text in common]
    assert vote([odd, common, near, common]) == common
    assert vote([odd[:3], near[:3], common[:3], common[:3]]) == common[:3]  # ROUGE-L: too few for CIDEr-D
    assert vote([odd, common]) == odd  # two cannot outvote each other: the first
    assert vote([odd[:1], odd[:1], odd[:1]]) == odd[:1]


def test_mean_and_outliers() -> None:
    values = np.array([[1.0, 5.0], [2.0, 5.1], [3.0, 5.2], [2.0, 9.9]])
    np.testing.assert_allclose(join_mos(values), [2.0, 6.3])
    np.testing.assert_allclose(average(values, 1.5), [2.0, 5.1])
    np.testing.assert_allclose(average(np.array([[1.0], [3.0]]), 0.1), [2.0])


def test_ranks_join_members_of_different_scales() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(5, 1, 200)
    stretched = np.stack([truth, np.exp(truth), -1 / truth.clip(1)])
    joined = join_mos(stretched, "rank")
    assert spearmanr(joined, truth).statistic == pytest.approx(1)
    same = np.stack([truth, truth])
    np.testing.assert_allclose(join_mos(same, "rank"), truth)


def test_members_may_be_in_another_order_or_lack_a_column() -> None:
    first = Submission(NAMES, [1.0, 2.0, 3.0, 4.0, 5.0])
    second = Submission(NAMES[::-1], [6.0, 5.0, 4.0, 3.0, 2.0], [f"c{i}" for i in range(5)])
    joined = join([first, second], ["a", "b"])
    assert joined == Submission(NAMES, [1.5, 2.5, 3.5, 4.5, 5.5], ["c4", "c3", "c2", "c1", "c0"])


def test_command_joins_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"{i}.csv" for i in range(3)]
    for i, path in enumerate(paths):
        write(path, Submission(NAMES, [4.0 + i] * 5, captions(3, 5)[i]), {"run": f"run{i}"})
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
    write(a, Submission(NAMES, [5.0] * 5), {})
    write(b, Submission(names, [5.0] * len(names)), {})
    output.write_text("old")
    with pytest.raises(UserError, match=message):
        main(["--submissions", str(a), str(b), "--output", str(output)])
    assert output.read_text() == "old"


def test_bad_options(tmp_path: Path) -> None:
    a = tmp_path / "a.csv"
    write(a, Submission(NAMES, [5.0] * 5), {})
    output = ["--output", str(tmp_path / "o.csv")]
    bad = [[], ["--submissions", str(a)], ["--submissions", str(a), str(a), "--outliers", "-1"], ["--mos", "median"]]
    for words in bad:
        with pytest.raises(UserError):
            main([*words, *output])


def test_a_member_that_was_changed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    write(a, Submission(NAMES, [5.0] * 5), {})
    write(b, Submission(NAMES, [6.0] * 5), {})
    b.write_text(b.read_text().replace("6.0", "7.0"))
    main(["--submissions", str(a), str(b), "--output", str(tmp_path / "c.csv")])
    assert str(b) in capsys.readouterr().err
    assert read(tmp_path / "c.csv").mos == [6.0] * 5
