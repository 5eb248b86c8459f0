import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.loader import load_config
from src.data.demo import make_demo
from src.data.prepare_options import parse_data_options
from src.data.sources import official_splits, read_sources
from src.data.split import split_images
from src.prepare import main

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "demo"
    make_demo(folder, photos=50)
    return folder


@pytest.fixture
def experiment(demo: Path, tmp_path: Path) -> str:
    file = tmp_path / "demo.yaml"
    file.write_text(
        f"data:\n  sources:\n    - {{format: samsung, path: {demo}/challenge}}\n"
        f"    - {{format: flickr8k, path: {demo}/flickr8k, split: official}}\n"
        f"  split_dir: {tmp_path}/splits\n"
    )
    return str(file)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "src.prepare", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_demo_through_the_command_line(tmp_path: Path) -> None:
    first = run("demo", "--output", str(tmp_path / "demo"), "--photos", "50")
    assert first.returncode == 0, first.stderr
    assert "wrote" in first.stdout
    assert "next: python -m src.prepare check" in first.stdout
    assert (tmp_path / "demo" / "flickr8k" / "Flickr8k.token.txt").is_file()
    again = run("demo", "--output", str(tmp_path / "demo"))
    assert (again.returncode, "unchanged" in again.stdout) == (0, True)


def test_check_exit_codes_and_messages(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--folder", str(demo / "flickr8k"), "--format", "flickr8k"]) == 0
    assert "warning 1 head has nothing to learn from: no training photo has a mos" in capsys.readouterr().out
    assert main(["check", "--folder", str(demo / "challenge")]) == 0
    assert "nothing to learn from" not in capsys.readouterr().out
    (tmp_path / "train.csv").write_text("img_name,img_path,mos,comments\n00,./train/00.jpg,5,it is gone\n")
    found = run("check", "--folder", str(tmp_path))
    assert found.returncode == 1
    assert "ERROR   1 photos are missing" in found.stdout
    wrong = run("check", "--folder", str(tmp_path / "absent"))
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert wrong.stderr.startswith("error: ")


def test_check_of_an_experiment(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", experiment]) == 0
    out = capsys.readouterr().out
    assert "samsung" in out
    assert "flickr8k" in out
    assert f"next: python -m src.train --config {experiment}" in out


def test_split_writes_what_training_reads(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["split", "--config", experiment, "--data.val", "0.25"]) == 0
    out = capsys.readouterr().out
    assert "wrote" in out
    assert ["samsung", "30", "10", "0"] in [line.split() for line in out.splitlines()]
    config = load_config(experiment, {"data.val": 0.25}).data
    (file,) = Path(config.split_dir).glob("*.csv")
    before = file.stat().st_mtime_ns
    parts = split_images(read_sources(config), config, official_splits(config))
    assert sorted(parts.values()) == ["test"] * 5 + ["train"] * 70 + ["val"] * 15
    assert main(["split", "--config", experiment, "--data.val", "0.25"]) == 0
    assert "unchanged" in capsys.readouterr().out
    assert file.stat().st_mtime_ns == before


def test_split_says_which_photos_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.csv").write_text("img_name,mos\n" + "".join(f"p{i},{i}\n" for i in range(7)))
    words = ["split", "--folder", str(tmp_path), "--data.split_dir", str(tmp_path / "splits")]
    for _ in range(2):
        assert main(words) == 0
        assert f"warning: 7 photos are missing, {tmp_path}/p0.jpg for one" in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], ["check"], ["demo"], ["split"], ["cache"]])
def test_help_explains(command: list[str]) -> None:
    shown = run(*command, "--help")
    assert shown.returncode == 0
    assert "usage:" in shown.stdout
    for word in ("data.val", "--config") if command and command[0] != "demo" else ():
        assert word in shown.stdout


def test_a_seed_below_0_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^--seed: is -1, should be greater than or equal to 0"):
        main(["demo", "--output", str(tmp_path / "demo"), "--seed", "-1"])


def test_next_names_what_was_looked_at(demo: Path, experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(demo / "challenge")
    assert main(["check", "--config", experiment, "--folder", folder]) == 0
    assert f"--config X.yaml, where X.yaml lists {folder} under data.sources" in capsys.readouterr().out


@pytest.mark.parametrize("split", [{"split": "foo"}, {}])
def test_an_official_split_that_cannot_be_read_is_no_random_one(tmp_path: Path, split: dict[str, str]) -> None:
    images = [{"filename": f"{i}.jpg", "sentences": [{"raw": "a dog runs"}], **split} for i in range(3)]
    (tmp_path / "images").mkdir()
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    data = parse_data_options("check", ["--folder", str(tmp_path), "--format", "flickr8k"])[0].data
    if split:
        with pytest.raises(UserError, match="dataset_flickr8k.json: image 0.jpg: unknown split 'foo'"):
            official_splits(data)
    else:
        assert official_splits(data) == {}


def test_unknown_command_is_one_line() -> None:
    shown = run("chek")
    assert (shown.returncode, shown.stderr) == (
        2,
        "error: no command 'chek'; type one of check, demo, audit, split, cache, neighbours, biq2021, spice\n",
    )


def test_cache_is_built_once_and_counts_what_is_missing(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import timm
    from safetensors.torch import save_file

    weights = tmp_path / "weights.safetensors"  # of a file, for random weights are others in each run
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    own = Path(shutil.copytree(demo / "challenge", tmp_path / "own"))
    words = ["cache", "--data.sources", f"[{{path: {own}}}]", "--data.split_dir", str(tmp_path / "splits")]
    words += ["--data.cache_dir", str(tmp_path / "features")]
    words += ["--model.backbone.name", "test_resnet", "--model.backbone.weights", str(weights)]
    words += ["--data.caption_size", "64", "--data.mos_size", "64", "--data.tokenizer.min_count", "1"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert "0 left out" in first
    assert "next: python -m src.train" in first
    assert main(words) == 0
    assert "the features of 0 photos" in capsys.readouterr().out
    for path in sorted((own / "train").iterdir())[1:]:
        path.unlink()
    assert main(words) == 0
    out, told = capsys.readouterr()
    assert "39 left out" in out
    assert told.count(f"{own}/train/") == told.count("left out: ") == 5
    shutil.rmtree(own / "train")
    with pytest.raises(UserError, match="none of 40 photos can be read, .*; check the sources' paths"):
        main(words)
