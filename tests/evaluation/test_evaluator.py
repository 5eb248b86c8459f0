"""Evaluation through the command: of submissions against independent scores, and of a tiny model."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from scipy.stats import pearsonr, spearmanr

from src.common.errors import UserError
from src.config.schema import SourceConfig, TrackConfig
from src.evaluate import main
from src.inference.submission import Submission, write_submission
from src.tracking.mlflow_client import open_client
from src.tracking.mlflow_tracker import Tracker
from tests.tiny import CAPTIONS, make_model, tiny_config, write_photo

SCHEMA = Path(__file__).parents[2] / "docs/details.schema.json"
NAMES = ["0213074526", "1e5", "00", "with space", "사진", "a", "b", "c"]
MOS = [4.1, 5.2, 6.3, 3.4, 7.5, 5.6, 4.7, 6.8]


def write_truth(path: Path) -> dict[str, list[str]]:
    """A table like train.csv: two comments a photo, one row each."""
    references = {name: [CAPTIONS[i % 4], CAPTIONS[(i + 1) % 4]] for i, name in enumerate(NAMES)}
    rows = ["img_name,img_path,mos,comments"]
    for name, mos in zip(NAMES, MOS, strict=True):
        rows += [f"{name},./train/{name}.jpg,{mos},{text}" for text in references[name]]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows), encoding="utf-8")
    return references


def test_a_submission_against_a_table(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    references = write_truth(elsewhere / "train.csv")
    predicted = [mos + wrong for mos, wrong in zip(MOS, [0.3, -0.2, 0.9, 0.1, -1.2, 0, 0.4, -0.3], strict=True)]
    captions = [CAPTIONS[(i * i) % 4] for i in range(len(NAMES))]
    write_submission(Path("X.csv"), Submission(NAMES[::-1], predicted[::-1], captions[::-1]), {})
    assert main(["--predictions", "X.csv", "--truth", "train.csv", "--json", "X_scores.json", "--meteor", "false"]) == 0
    found = json.loads(Path("X_scores.json").read_text(encoding="utf-8"))
    scores = {name: score["value"] for name, score in found["scores"]["all"].items()}
    assert scores["plcc"] == pytest.approx(pearsonr(predicted, MOS).statistic)
    assert scores["srcc"] == pytest.approx(spearmanr(predicted, MOS).statistic)
    said = {name: [caption] for name, caption in zip(NAMES, captions, strict=True)}
    bleu, _ = Bleu(4).compute_score(references, said, verbose=0)
    assert [scores[f"bleu_{n}"] for n in (1, 2, 3, 4)] == pytest.approx(bleu, abs=1e-9)
    low, high = (found["scores"]["all"]["plcc"][key] for key in ("low", "high"))
    assert low < scores["plcc"] < high
    photos = {photo["names"]: photo for photo in found["photos"]}
    assert list(photos) == NAMES
    assert photos["00"]["mos_error"] == pytest.approx(0.9)
    assert photos["00"]["references"] == references["00"]
    printed = capsys.readouterr().out
    assert f"{scores['plcc']:.4f} [{low:.4f}, {high:.4f}]" in printed


def test_predictions_of_one_column_and_of_some_photos(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_truth(elsewhere / "train.csv")
    write_submission(Path("X.csv"), Submission([*NAMES[:4], "other"], [1.0, 2.0, 4.0, 3.0, 9.0], None), {})
    main(["--predictions", "X.csv", "--truth", "train.csv", "--json", "s.json"])
    scores = json.loads(Path("s.json").read_text())["scores"]["all"]
    assert scores["srcc"]["value"] == pytest.approx(spearmanr([1, 2, 4, 3], MOS[:4]).statistic)
    assert "cider_d" not in scores
    assert "4 names in common" in capsys.readouterr().err


@pytest.fixture
def model(elsewhere: Path) -> Path:
    """A model of two sources: one with mos and comments, one with captions alone."""
    write_truth(elsewhere / "rated" / "train.csv")
    lines = []
    for i, name in enumerate(NAMES):
        write_photo(elsewhere / "rated" / "train" / f"{name}.jpg", seed=i)
        write_photo(elsewhere / "told" / "Images" / f"{i}.jpg", seed=i + 20)
        lines += [f"{i}.jpg#{k}\t{CAPTIONS[(i + k) % 4]}" for k in range(2)]
    (elsewhere / "told" / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    sources = [
        SourceConfig(format="samsung", path="rated", name="rated"),
        SourceConfig(format="flickr8k", path="told", name="told"),
    ]
    config = tiny_config(sources=sources)
    config.data.val = 0.5
    return make_model(elsewhere / "run" / "model", config, styles=("rated", "told"))


def test_a_model_on_its_own_validation_photos(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(model), "--json", "s.json", "--meteor", "false"]) == 0
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))
    assert set(found["scores"]) == {"all", "rated", "told"}
    assert "plcc" not in found["scores"]["told"]
    assert found["scores"]["all"]["plcc"]["value"] == found["scores"]["rated"]["plcc"]["value"]
    rated = [photo for photo in found["photos"] if photo["sources"] == "rated"]
    assert len(rated) == 4
    assert [photo["mos_true"] for photo in rated] == [MOS[NAMES.index(photo["names"])] for photo in rated]
    own = pearsonr([p["mos"] for p in rated], [p["mos_true"] for p in rated]).statistic
    assert found["scores"]["rated"]["plcc"]["value"] == pytest.approx(own, abs=1e-6)
    assert all(photo["mos"] is None for photo in found["photos"] if photo["sources"] == "told")
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if line.startswith("score"))
    assert header.split() == ["score", "all", "rated", "told"]


def test_models_of_all_folds_answer_for_every_photo(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for fold in range(2):
        config = tiny_config(captions=False, sources=[SourceConfig(format="samsung", path="rated", name="rated")])
        config.data.folds, config.data.fold = 2, fold
        folders.append(str(make_model(Path(f"fold{fold}/model"), config, styles=(), seed=fold)))
    assert main(["--model", *folders, "--json", "s.json"]) == 0
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))
    photos = {photo["names"]: photo["mos"] for photo in found["photos"]}
    assert sorted(photos) == sorted(NAMES)
    assert [about["model"] for about in found["models"]] == folders
    own = pearsonr([photos[name] for name in NAMES], MOS).statistic
    assert found["scores"]["all"]["plcc"]["value"] == pytest.approx(own, abs=1e-6)
    assert "answered by several models" not in capsys.readouterr().err
    assert main(["--model", *folders, folders[0], "--meteor", "false"]) == 0
    assert f"of {len(NAMES)} photos were answered by several models" in capsys.readouterr().err
    with pytest.raises(UserError, match="--log: the scores are of several runs"):
        main(["--model", *folders, "--log", "true"])


def test_another_part_and_an_unreadable_photo(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path("rated/train").iterdir():
        path.write_bytes(path.name.encode())
    assert main(["--model", str(model), "--part", "train", "--json", "s.json", "--meteor", "false"]) == 3
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))
    assert len(found["fallbacks"]) == 4
    assert "rated/train/c.jpg" in capsys.readouterr().err


def test_as_many_captioned_photos_as_captions(model: Path) -> None:
    """A photo that was not to be captioned is no distinct caption."""
    table = Path("rated/train.csv")
    rows = [line.rsplit(",", 1)[0] + "," for line in table.read_text(encoding="utf-8").splitlines()[1::2]]
    table.write_text("\n".join(["img_name,img_path,mos,comments", *rows]), encoding="utf-8")
    main(["--model", str(model), "--json", "s.json", "--meteor", "false"])
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))
    said = {photo["captions"] for photo in found["photos"] if photo["captions"]}
    assert {photo["captions"] for photo in found["photos"] if photo["sources"] == "rated"} == {""}
    assert found["scores"]["all"]["distinct_captions"]["value"] == len(said)
    assert np.isfinite(found["scores"]["all"]["cider_d"]["value"])


def test_scores_are_logged_to_the_models_run(model: Path) -> None:
    with Tracker.start(TrackConfig(name="run"), Path("run"), {}, resources=0) as tracker:
        pass
    assert main(["--model", str(model), "--log", "true", "--json", "s.json", "--meteor", "false"]) == 0
    scores = json.loads(Path("s.json").read_text(encoding="utf-8"))["scores"]["all"]
    metrics = open_client().get_run(tracker.run_id).data.metrics
    assert metrics["eval/val/plcc"] == pytest.approx(scores["plcc"]["value"])
    assert metrics["eval/val/cider_d"] == pytest.approx(scores["cider_d"]["value"])


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


def test_against_submissions_and_on_boards(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_truth(Path("train.csv"))
    right, noisy = [mos + 0.1 for mos in MOS], [*MOS[::-1]]
    for name, mos in (("right.csv", right), ("noisy.csv", noisy)):
        write_submission(Path(name), Submission(NAMES, mos, [CAPTIONS[2]] * len(NAMES)), {})
    words = ["--truth", "train.csv", "--against", "noisy.csv", "--boards", "50", "--json", "s.json"]
    assert main(["--predictions", "right.csv", *words, "--meteor", "false"]) == 0
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))
    off = found["against"]["noisy.csv"]["plcc"]["value"]
    assert off == pytest.approx(1 - pearsonr(noisy, MOS).statistic)
    assert found["boards"]["stratified"]["public"]["scores"]["right.csv"]["quality"][0] == pytest.approx(1.0)
    assert found["boards"]["shifted"]["private"]["ranks"]["right.csv"][0] == 1.0
    assert "wins the private one in" in capsys.readouterr().out


def test_similarity_joins_the_scores(elsewhere: Path) -> None:
    write_truth(elsewhere / "train.csv")
    write_submission(Path("X.csv"), Submission(NAMES, MOS, [CAPTIONS[i % 4] for i in range(len(NAMES))]), {})
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    lines = [" ".join([word, *("1" if i == j else "0" for j in range(len(words)))]) for i, word in enumerate(words)]
    Path("glove.txt").write_text("\n".join(lines), encoding="utf-8")
    given = ["--predictions", "X.csv", "--truth", "train.csv", "--meteor", "false", "--json", "s.json"]
    assert main([*given, "--glove", "glove.txt"]) == 0
    found = json.loads(Path("s.json").read_text(encoding="utf-8"))

    def alike(one: str, other: str) -> float:
        a, b = (np.array([text.split().count(word) for word in words]) for text in (one, other))
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    own = [(1 + alike(CAPTIONS[i % 4], CAPTIONS[(i + 1) % 4])) / 2 for i in range(len(NAMES))]
    assert [photo["similarity_glove"] for photo in found["photos"]] == pytest.approx(own, abs=1e-6)
    assert found["scores"]["all"]["similarity_glove"]["value"] == pytest.approx(np.mean(own), abs=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--model"),
        (["--model", "run/model", "--attention", "true"], "--attention"),
        (["--model", "run/model", "--boards", "-1"], "^--boards: is -1"),
        (["--predictions", "X.csv"], "--truth"),
        (["--predictions", "X.csv", "--truth", "rated/train.csv", "--log", "true"], "^--log: a submission"),
        (["--predictions", "X.csv", "--truth", "none.csv"], "^--truth none.csv: no such file"),
        (["--predictions", "X.csv", "--truth", "blank.csv", "--boards", "2"], "^--boards: no photo"),
        (["--predictions", "huge.csv", "--truth", "rated/train.csv"], "huge.csv, row 2 .*outside -1e.15 to 1e.15"),
        (["--predictions", "X.csv", "--truth", "other.csv"], "none of its photos"),
        (["--model", "run/model", "--part", "test"], "data.test"),
        (["--model", "run/model", "--part", "dev"], "dev"),
        (["--model", "run/model", "--style", "poetry"], "rated, told"),
    ],
)
def test_bad_input_is_one_line(model: Path, words: list[str], message: str) -> None:
    write_submission(Path("X.csv"), Submission(NAMES, MOS, None), {})
    Path("other.csv").write_text("img_name,mos,comments\nz,5,x\n")
    Path("blank.csv").write_text("img_name,mos,comments\na,,\n")
    Path("huge.csv").write_text("img_name,mos\na,1e308\n")
    with pytest.raises(UserError, match=message) as error:
        main(words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--spice", "true"], "python -m src.prepare spice"),
        (["--glove", "none.txt"], "^--glove none.txt: no such file"),
        (["--bert", "./none"], "^--bert ./none: no such folder"),
        (["--against", "run/model"], "given twice"),
        (["--against", "typo.csv"], "^typo.csv"),
        (["--against", "data"], "^data: no model folder"),
        (["--attention", "true", "--details", "d.json"], "^--attention: .* attends to no place"),
        (["--json", "data"], "^data: is a folder"),
        (["--json", "plain/s.json"], "^plain: cannot be made"),
        (["--details", "plain/d/s.json"], "^plain/d: cannot be made"),
        (["--log", "true"], "no run"),
    ],
)
def test_a_mistake_is_told_before_anything_is_answered(elsewhere: Path, words: list[str], message: str) -> None:
    config = tiny_config(sources=[SourceConfig(format="samsung", path="not here", name="rated")])
    config.model.decoder.attention, config.model.decoder.image = "none", "state"
    make_model(Path("run/model"), config)
    Path("data").mkdir()
    Path("plain").touch()
    with pytest.raises(UserError, match=message) as error:
        main(["--model", "run/model", *words])
    assert "\n" not in str(error.value)


def test_a_rival_whose_own_data_is_elsewhere(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_model(Path("away/model"), tiny_config(sources=[SourceConfig(format="samsung", path="gone", name="gone")]))
    assert main(["--model", str(model), "--against", "away/model", "--meteor", "false", "--json", "s.json"]) == 0
    assert "away/model: whether it knows the photos from its training cannot be told" in capsys.readouterr().err
    assert "plcc" in json.loads(Path("s.json").read_text(encoding="utf-8"))["against"]["away/model"]
