"""Predictions through the command, with a tiny model: names, order, fallbacks, and the numbers themselves."""

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

import src
from src.common.errors import UserError
from src.config.schema import SourceConfig
from src.models.model_folder import load_model_folder
from src.predict import main
from tests.tiny import META, NAMES, make_model, tiny_config, write_photo


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("run") / "model")


@pytest.fixture
def data(elsewhere: Path) -> Path:
    """A test.csv in the challenge's form, its sample submission in another order."""
    rows = ["img_name,img_path"]
    for i, name in enumerate(NAMES):
        write_photo(elsewhere / "test" / f"{name}.jpg", seed=i)
        rows.append(f"{name},./test/{name}.jpg")
    (elsewhere / "test.csv").write_text("\n".join(rows), encoding="utf-8")
    sample = ["img_name,mos,comments", *(f"{name},0,nice picture." for name in NAMES[::-1])]
    (elsewhere / "sample_submission.csv").write_text("\n".join(sample), encoding="utf-8")
    return elsewhere


def rows_of(path: Path) -> list[dict[str, str]]:
    """An independent reading of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(model: Path, data: Path | str, *more: str, output: str = "out/X.csv") -> tuple[int, Path]:
    return main(["--model", str(model), "--data", str(data), "--output", output, *more]), Path(output)


def test_a_submission_in_the_samples_order(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = run(model, "test.csv")
    assert code == 0
    assert pd.read_csv(output, dtype=str, keep_default_na=False)["img_name"].tolist() == NAMES[::-1]
    rows = rows_of(output)
    assert list(rows[0]) == ["img_name", "mos", "comments"]
    assert all(0 <= float(row["mos"]) <= 10 and row["comments"] for row in rows)
    facts = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["sha256"] == sha256(output.read_bytes()).hexdigest()
    assert facts["model_hash"] == sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert (facts["run"], facts["photos"], facts["fallbacks"]) == ("model", 5, [])
    assert facts["config"]["model"]["backbone"]["name"] == "test_resnet"
    printed = capsys.readouterr()
    assert "out/X.csv" in printed.out
    assert "photos/s" in printed.out
    assert "next:" in printed.out


def test_mos_is_the_mean_over_the_photo_and_its_mirror_image(model: Path, data: Path) -> None:
    _, output = run(model, "test.csv")
    loaded = load_model_folder(model)
    for row in rows_of(output):
        pixels = cv2.imdecode(np.fromfile(data / "test" / f"{row['img_name']}.jpg", np.uint8), cv2.IMREAD_COLOR_RGB)
        small = cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA)
        both = torch.from_numpy(np.stack([small, small[:, ::-1]])).permute(0, 3, 1, 2) / 255
        with torch.inference_mode():
            expected = loaded.model.mos(loaded.model.backbone(both).levels)
        assert float(row["mos"]) == pytest.approx(float(expected.mean()), abs=1e-4)
        assert abs(expected[0] - expected[1]) > 0.002  # or the test would say nothing


def test_an_unreadable_photo_gets_the_fallback(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = data / "test" / "00.jpg"
    whole.write_bytes(whole.read_bytes()[:200])
    (data / "test" / "사진 하나.jpg").unlink()
    code, output = run(model, "test.csv")
    assert code == 3
    rows = {row["img_name"]: row for row in rows_of(output)}
    assert list(rows) == NAMES[::-1]
    for name in ("00", "사진 하나"):
        assert float(rows[name]["mos"]) == META["mos_mean"]
        assert rows[name]["comments"] == META["comment"]
    assert rows["1e5"]["comments"] != META["comment"]
    printed = capsys.readouterr().err
    assert "00.jpg" in printed
    assert "사진 하나" in printed
    assert set(json.loads(output.with_suffix(".json").read_text())["fallbacks"]) == {"00", "사진 하나"}


def test_batch_size_does_not_change_the_answers(model: Path, data: Path) -> None:
    _, whole = run(model, "test.csv", output="a.csv")
    _, single = run(model, "test.csv", "--batch-size", "1", output="b.csv")
    for one, other in zip(rows_of(whole), rows_of(single), strict=True):
        assert float(one["mos"]) == pytest.approx(float(other["mos"]), abs=1e-4)
        assert one["comments"] == other["comments"]


def test_the_cache_gives_the_live_answers(model: Path, data: Path) -> None:
    (data / "test" / "00.jpg").write_bytes(b"no photo")
    code, live = run(model, "test.csv", output="live.csv")
    cached_code, cached = run(model, "test.csv", "--cache", "true", output="cached.csv")
    assert (code, cached_code) == (3, 3)
    assert list((data / "cache" / "features").iterdir())
    for one, other in zip(rows_of(live), rows_of(cached), strict=True):
        assert float(one["mos"]) == pytest.approx(
            float(other["mos"]), abs=0.15
        )  # the cache is in bf16 where that is fast


def test_a_folder_and_photos_of_all_sizes(data: Path) -> None:
    config = tiny_config()
    own = make_model(data / "own", replace(config, data=replace(config.data, mos_size=0)))
    for i, size in enumerate([33, 48, 48, 64]):
        write_photo(data / "photos" / "deep" / f"{i}.jpg", i, size)
    code, output = run(own, "photos")
    assert code == 0
    assert [row["img_name"] for row in rows_of(output)] == [f"deep/{i}.jpg" for i in range(4)]


def test_the_current_folder_with_a_pipe_in_it(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(data / "test")
    os.mkfifo("z.jpg")
    code, output = run(model, ".")
    assert code == 3
    assert [row["img_name"] for row in rows_of(output)] == sorted([*(f"{name}.jpg" for name in NAMES), "z.jpg"])
    assert "photo z.jpg: z.jpg cannot be read (it is no regular file)" in capsys.readouterr().err


def test_a_folder_in_a_samples_order_by_names_without_suffix(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "s.csv").write_text("img_name\n1e5\n00\n0213074526.jpg\n")
    _, output = run(model, "test", "--sample", "s.csv")
    rows = rows_of(output)
    assert [row["img_name"] for row in rows] == ["1e5", "00", "0213074526.jpg"]
    assert "s.csv: does not name 2 of the photos" in capsys.readouterr().err
    _, output = run(model, "test.csv", "--columns", "img_name,mos")
    known = {row["img_name"]: float(row["mos"]) for row in rows_of(output)}
    assert [float(row["mos"]) for row in rows[:2]] == pytest.approx([known["1e5"], known["00"]], abs=1e-4)


def test_a_list_of_names_with_a_folder_of_images(data: Path) -> None:
    """Flickr8k's test list: captions alone, in the style of the only source."""
    sources = [SourceConfig(format="flickr8k", path="x", name="flickr8k")]
    captions = make_model(data / "captions", tiny_config(mos=False, sources=sources), styles=("flickr8k",))
    for i in range(3):
        write_photo(data / "images" / f"{i}_ab.jpg", i)
    (data / "Flickr_8k.testImages.txt").write_text("2_ab.jpg\n0_ab.jpg\n1_ab.jpg\n")
    code, output = run(captions, "Flickr_8k.testImages.txt", "--images", "images")
    assert code == 0
    rows = rows_of(output)
    assert [row["img_name"] for row in rows] == ["2_ab.jpg", "0_ab.jpg", "1_ab.jpg"]
    assert list(rows[0]) == ["img_name", "comments"]


def test_the_command_itself_with_odd_names(model: Path, data: Path) -> None:
    """Exit code 3 and nothing but rows that are as the table has them, down to the spaces."""
    names = [" before", "after ", "a,b", 'q"q', "NA", "1_000", "0x10", "gone"]
    for i in range(len(names) - 1):
        write_photo(data / "odd" / f"{i}.jpg", seed=i)
    with (data / "odd" / "test.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["img_name", "img_path"], *([name, f"{i}.jpg"] for i, name in enumerate(names))])
    words = ["--model", str(model), "--data", "odd/test.csv", "--output", "X.csv"]
    command = [sys.executable, "-m", "src.predict", *words]
    root = str(Path(src.__file__).parents[1])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert [row["img_name"] for row in rows_of(Path("X.csv"))] == names
    assert "photo gone" in done.stderr
    assert json.loads(Path("X.json").read_text())["command"].startswith("python -m src.predict --model")
    done = subprocess.run([*command, "--output", "X.txt"], env={**os.environ, "PYTHONPATH": root}, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_single_photos_are_printed_as_a_submission_has_them(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_model(data / "graded", mos_percentiles=[1.0, 5.0, 6.0, 9.0])
    _, output = run(folder, "test.csv")
    rows = {row["img_name"]: row for row in rows_of(output)}
    before = sorted(data.rglob("*"))
    capsys.readouterr()
    assert main(["--model", str(folder), "--image", "test/1e5.jpg", "test/00.jpg"]) == 0
    assert sorted(data.rglob("*")) == before
    entries = re.split(r"^(?=test/)", capsys.readouterr().out, flags=re.MULTILINE)[1:]
    for name, entry in zip(["1e5", "00"], entries, strict=True):
        mos = float(rows[name]["mos"])
        place = 100 * float(np.interp(mos, [1.0, 5.0, 6.0, 9.0], [0, 1 / 3, 2 / 3, 1]))
        first, second, caption, *_ = entry.splitlines()
        assert first == f"test/{name}.jpg"
        assert second == f"  mos {mos:.2f} (above {place:.0f} % of the training photos)"
        assert caption.startswith(f"  {rows[name]['comments']} (-")


def test_a_single_photo_that_cannot_be_read_leaves_the_others(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("page.jpg").write_text("<html>sign in</html>")
    with pytest.raises(UserError) as caught:
        main(["--model", str(model), "--image", "page.jpg", "http://127.0.0.1/a.jpg", "none.jpg", ".", "test/00.jpg"])
    for part in (
        "page.jpg: is no photo, but a web page",
        "a.jpg: cannot be fetched",
        "none.jpg: cannot be read",
        ".: is a folder",
    ):
        assert part in str(caught.value)
    assert "test/00.jpg\n  mos " in capsys.readouterr().out


def test_columns_and_heads(model: Path, data: Path) -> None:
    _, whole = run(model, "test.csv", output="whole.csv")
    for column in ("comments", "mos"):
        _, output = run(model, "test.csv", "--columns", f"img_name,{column}")
        assert list(rows_of(output)[0]) == ["img_name", column]
        assert [row[column] for row in rows_of(output)] == [row[column] for row in rows_of(whole)]
    quality = make_model(data / "quality", tiny_config(captions=False))
    _, output = run(quality, "test.csv")
    assert list(rows_of(output)[0]) == ["img_name", "mos"]
    with pytest.raises(UserError, match="--style: no captions are written"):
        run(quality, "test.csv", "--style", "challenge")
    with pytest.raises(UserError, match="no comments"):
        run(quality, "test.csv", "--columns", "img_name,mos,comments")


def test_style_decides_the_caption(data: Path) -> None:
    names = ("challenge", "flickr8k")
    sources = [SourceConfig(format="samsung", name=names[0]), SourceConfig(format="flickr8k", name=names[1])]
    both = make_model(data / "both", tiny_config(sources=sources), styles=names, seed=4)
    found = {}
    for style in ("", *names):
        _, output = run(both, "test.csv", *(["--style", style] if style else []), output=f"{style or 'none'}.csv")
        found[style] = [row["comments"] for row in rows_of(output)]
        assert json.loads(output.with_suffix(".json").read_text())["style"] == (style or "challenge")
    assert found[""] == found["challenge"] != found["flickr8k"]
    with pytest.raises(UserError, match=r"poetry.*challenge, flickr8k"):
        run(both, "test.csv", "--style", "poetry")


def test_several_styles_and_none_of_the_challenge_must_be_chosen(data: Path) -> None:
    sources = [SourceConfig(format="flickr8k", name="a"), SourceConfig(format="coco", name="b")]
    several = make_model(data / "several", tiny_config(sources=sources), styles=("a", "b"))
    with pytest.raises(UserError, match="--style.*a, b"):
        run(several, "test.csv")
    assert run(several, "test.csv", "--style", "b")[0] == 0


def test_generation_options_go_over_the_models_own(model: Path, data: Path) -> None:
    _, output = run(model, "test.csv", "--generate.max_length", "1", "--generate.method", "greedy")
    facts = json.loads(output.with_suffix(".json").read_text())["generate"]
    assert (facts["max_length"], facts["method"], facts["beam"]) == (1, "greedy", 2)
    assert all(len(row["comments"].split()) == 1 or row["comments"] == META["comment"] for row in rows_of(output))


def test_data_of_other_units(data: Path) -> None:
    far = make_model(data / "far", mos_range=[0.0, 100.0], mos_mean=61.0)
    (data / "test" / "00.jpg").unlink()
    _, output = run(far, "test.csv")
    assert {row["img_name"]: float(row["mos"]) for row in rows_of(output)}["00"] == 61.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere.csv"], "nowhere.csv"),
        (["--data", ""], "--data: name a table"),
        (["--data", "test", "--sample", "other.csv"], "other.csv.*no such photo"),
        (["--data", "test.csv", "--sample", "other.csv"], "other.csv.*no such photo"),
        (["--data", "test.csv", "--images", "nowhere"], "nowhere"),
        (["--data", "test.csv", "--columns", "name"], "--columns"),
        (["--data", "test.csv", "--batch-size", "0"], "^--batch-size: is 0"),
        (["--data", "test.csv", "--generate.beem", "3"], "beem"),
        (["--data", "test.csv", "--output", "X.txt"], "csv"),
        (["--data", "test.csv", "--model", "nothing"], "no runs yet"),
        (["--data", "nowhere.csv", "--model", "nothing"], "no runs yet"),
        (["--data", "test.csv", "--output", ""], "^--output: name the submission"),
        (["--image", "test/00.jpg"], "^--image: .* leave --output out"),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_old_file(model: Path, data: Path, words: list[str], message: str) -> None:
    (data / "other.csv").write_text("img_name,mos,comments\nno such photo,0,x\n")
    (data / "X.csv").write_text("old")
    with pytest.raises(UserError, match=message) as error:
        main(["--model", str(model), "--output", "X.csv", *words])
    assert "\n" not in str(error.value)
    assert (data / "X.csv").read_text() == "old"
