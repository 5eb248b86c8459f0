"""The ledger through its command: scores, responses of the board, ranks among rivals, and the suggestion."""

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from src.common.errors import UserError
from src.config.schema import TrackConfig
from src.evaluation.ledger_report import rank_rows
from src.inference.submission import Submission, write_submission
from src.submissions import main
from src.tracking.mlflow_tracker import Tracker

PHOTOS = 60
NAMES = [f"{i:04}" for i in range(PHOTOS)]


def add_run(name: str, noise: float, quality: float) -> None:
    """A finished run's predictions for its validation images, and a submission of its model."""
    rng = np.random.default_rng(len(name))
    true = np.random.default_rng(0).normal(5.5, 0.8, PHOTOS)
    mos = true + noise * rng.normal(size=PHOTOS)
    columns = {"names": NAMES, "sources": ["c"] * PHOTOS, "mos": mos.tolist(), "mos_true": true.tolist()}
    Path(f"runs/{name}/model").mkdir(parents=True)
    columns |= {"captions": [""] * PHOTOS, "references": [[]] * PHOTOS}
    Path(f"runs/{name}/answers.json").write_text(json.dumps(columns))
    score = {"value": quality, "low": quality - 0.05, "high": quality + 0.05}
    facts = {"run": name, "model": f"runs/{name}/model", "validation_scores": {"quality": score}}
    write_submission(Path(f"submissions/{name}.csv"), Submission(NAMES, mos.clip(0, 10).tolist()), facts)


@pytest.fixture
def submissions(elsewhere: Path) -> Path:
    """Three runs' submissions, the best first, and a mean of two."""
    for name, noise, quality in [("fine", 0.3, 0.9), ("middling", 0.7, 0.8), ("poor", 2.0, 0.4)]:
        add_run(name, noise, quality)
    members = [{"run": name, "model": f"runs/{name}/model"} for name in ("middling", "poor")]
    write_submission(Path("submissions/joint.csv"), Submission(NAMES, [5.0] * PHOTOS), {"members": members})
    return elsewhere / "submissions"


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """The lines of the printed ledger by their first word."""
    capsys.readouterr()
    assert main(list(words)) == 0
    return {line.split(" ")[0]: line for line in capsys.readouterr().out.splitlines() if line}


def test_a_list_of_scores_and_a_suggestion(submissions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys)
    assert "0.900 [0.850, 0.950]  -           validation" in lines["fine.csv"]
    assert "middling + poor" in lines["joint.csv"]
    assert "held out" in lines["joint.csv"]
    assert "hand in last: fine.csv, since it wins 100% of 400 simulated private boards on 60 photos" in lines["hand"]


def test_scores_are_those_of_the_files_columns(submissions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads((submissions / "fine.json").read_text())
    write_submission(submissions / "words.csv", Submission(NAMES, None, ["a photo"] * PHOTOS), facts)
    assert "0.900" not in printed(capsys)["words.csv"]


def test_the_boards_response_is_noted_beside_the_file(submissions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (submissions / "poor.json").read_bytes()
    words = ["poor", "--public", "0.7874", "1.359", "--rank", "6"]
    line = printed(capsys, *words)["poor.csv"]
    assert line.split()[-3:] == ["0.7874,", "1.3590", "6"]
    assert (submissions / "poor.json").read_bytes() == before
    note = json.loads((submissions / "ledger.jsonl").read_text())
    assert (note["file"], note["rank"], note["scores"]) == ("poor.csv", 6, {"quality": 0.4})
    printed(capsys, "submissions/poor.csv", "--public", "0.78", "1.3", "--rank", "7")  # a correction
    (submissions / "poor.csv").rename(submissions / "renamed.csv")
    assert printed(capsys)["renamed.csv"].split()[-3:] == ["0.7800,", "1.3000", "7"]
    write_submission(submissions / "renamed.csv", Submission(NAMES, [5.5] * PHOTOS), {})
    lines = printed(capsys)
    assert lines["renamed.csv"].split()[-1] == "-"
    assert lines["poor.csv"].split()[-3:] == ["0.7800,", "1.3000", "7"]  # its scores outlive the file


def test_own_scores_against_the_boards(submissions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, quality in [("fine", 0.85), ("middling", 0.7)]:
        lines = printed(capsys, name, "--public", str(quality), "0")
    assert "own less the board's score +0.0750, mean of 2; a correlation needs 3" in lines["quality:"]
    lines = printed(capsys, "poor", "--public", "0.9", "0")
    assert "PLCC -0.54, SRCC -0.50" in lines["quality:"]  # (0.9, 0.8, 0.4) and (0.85, 0.7, 0.9)
    assert "captioning:" not in lines
    assert "the board's best is poor.csv" in lines["the"]


def test_ranks_among_rivals(submissions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rivals.csv").write_text("team,quality,captioning\nalpha,0.80,1.2\nbeta,0.70,1.4\n")
    with pytest.raises(UserError, match="--rivals: the board has scored none of ours"):
        main(["--rivals", "rivals.csv"])
    main(["fine", "--public", "0.79", "1.3"])
    capsys.readouterr()
    main(["middling", "--public", "0.60", "1.5", "--rivals", "rivals.csv"])
    sheet = [line.split() for line in capsys.readouterr().out.split("\n\n")[2].splitlines()]
    # All sums of ranks are 4; the better rank in captioning then decides.
    assert [row[-5:] for row in sheet[1:4]] == [
        ["0.6000", "3", "1.5000", "1", "4"],
        ["0.7000", "2", "1.4000", "2", "4"],
        ["0.8000", "1", "1.2000", "3", "4"],
    ]
    assert " ".join(sheet[4]) == "* fine.csv: place 2, sum of ranks 4"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("alpha,0.8,1.2\nalpha,0.7,1.3", "rivals.csv: row 3: team alpha is there twice"),
        ("alpha,1.3,0.8", "rivals.csv: row 2: 1.3, 0.8 are no scores; type quality and captioning"),
        ("alpha,good,0.8", "rivals.csv: row 2: good, 0.8 are no scores"),
    ],
)
def test_wrong_rivals(submissions: Path, rows: str, message: str) -> None:
    Path("rivals.csv").write_text(f"team,quality,captioning\n{rows}\n")
    with pytest.raises(UserError, match=message):
        main(["--rivals", "rivals.csv"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fine", "--public", "1.359", "0.7874"], "quality is within 0 to 1; type quality, then captioning"),
        (["fine", "--public", "0.7", "inf"], "captioning is at least 0, and finite"),
        (["fine", "--public", "0.7", "high"], "--public 0.7 high: are no scores"),
        (["none", "--public", "0.7", "1"], "none: name the submission .* fine.csv, joint.csv, middling.csv"),
        (["other/fine.csv", "--public", "0.7", "1"], "other/fine.csv: name the submission"),
        (["fine"], "give FILE --public QUALITY CAPTIONING"),
        (["--rank", "3"], "give FILE --public QUALITY CAPTIONING"),
    ],
)
def test_wrong_options_note_nothing(submissions: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(words)
    assert not (submissions / "ledger.jsonl").exists()


def test_a_damaged_ledger_is_one_line(submissions: Path) -> None:
    main(["fine", "--public", "0.7", "1.3"])
    with (submissions / "ledger.jsonl").open("a") as file:
        file.write("<<<<<<< HEAD\n")
    with pytest.raises(UserError, match="submissions/ledger.jsonl, line 2: is no response of the board"):
        main([])


def test_equal_and_damaged_files_are_named(submissions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fine", "--public", "0.7", "1.3"])
    header, *rows = (submissions / "fine.csv").read_text().splitlines()
    (submissions / "again.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")
    (submissions / "broken.csv").write_text("img_name,mos\n0001,high\n")
    (submissions / "poor.csv").write_text((submissions / "poor.csv").read_text().replace("0001,", "1,"))
    capsys.readouterr()
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert "again.csv: holds the same predictions as fine.csv, which the board has scored" in err
    assert "broken.csv: row 2 (0001): mos 'high' is no finite number" in err
    assert "poor.csv: was changed after its json was written" in err
    assert "hand in last: fine.csv" in out


def test_mlflow_has_the_response(submissions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (Path("runs/fine/answers.json")).rename("answers.json")
    with Tracker.start(TrackConfig("tests", "fine"), Path("runs/fine"), {}, resources=0) as tracker:
        tracker.flush()
    main(["fine", "--public", "0.7", "1.3", "--rank", "2"])
    run = MlflowClient(f"sqlite:///{Path('mlflow.db').resolve()}").get_run(tracker.run_id)
    assert run.data.metrics == {"board/public/quality": 0.7, "board/public/captioning": 1.3, "board/public/rank": 2.0}
    assert run.data.tags["submission"] == "fine.csv"
    assert f"logged to run {tracker.run_id} in MLflow" in capsys.readouterr().out


def test_an_empty_folder(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "hand in last: there is no submission with scores yet" in capsys.readouterr().out


def test_equal_scores_share_a_rank() -> None:
    rows = rank_rows({"a": (0.8, 1.0), "b": (0.8, 1.0), "c": (0.7, 0.9)})
    assert [(row[0], row[1], row[-1]) for row in rows] == [("1", "a", "2"), ("1", "b", "2"), ("3", "c", "6")]
