"""A prediction by several processes of Ray against that of a single one, byte for byte, also after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import src
from src.common.errors import UserError
from src.common.files import write_text
from src.data.image_list import read_image_list
from src.data.sample import Sample
from src.inference.distributed_prediction import (
    BATCHES,
    PARTS,
    PredictionPart,
    PredictionWorker,
    cut_parts,
    parts_folder,
    sample_to_json,
    worker_resources,
)
from src.inference.predict_options import PredictOptions
from src.predict import main
from tests.tiny import make_model, tiny_config, write_photo

PHOTOS = 203  # six parts of 32 and one of 11


@pytest.fixture
def data(elsewhere: Path) -> Path:
    """A folder of photos of several sizes, one of them broken, and a tiny model."""
    for i in range(PHOTOS):
        write_photo(elsewhere / "photos" / f"{(i * 37) % PHOTOS:03}.jpg", i, size=40 + i % 3)
    (elsewhere / "photos/050.jpg").write_bytes(b"no photo")
    make_model(elsewhere / "model")
    return elsewhere


def words(output: str, *more: str) -> list[str]:
    return ["--model", "model", "--data", "photos", "--batch-size", "2", "--output", output, *more]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_bytes_of_one_process_also_when_killed_and_started_again(data: Path) -> None:
    command = [sys.executable, "-m", "src.predict", *words("many.csv", "--workers", "2")]
    environment = {**os.environ, "PYTHONPATH": str(Path(src.__file__).parents[1])}
    killed = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 500
    while not (kept := list(data.glob(".many.parts-*/0*.json"))) and killed.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert kept
    assert not Path("many.csv").exists(), "it was to be killed before it was done"
    part = json.loads(kept[0].read_text())
    part["predictions"]["captions"][3] = "kept from before the kill"
    kept[0].write_text(json.dumps(part))

    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr[-2000:]
    assert done.stderr.count("photo 050") == 1
    assert not list(data.glob(".many.parts-*"))
    assert main(words("one.csv")) == 3
    one, many = (Path(name).read_text().splitlines() for name in ("one.csv", "many.csv"))
    assert len(one) == len(many) == PHOTOS + 1
    differ = [i for i in range(len(one)) if one[i] != many[i]]
    assert differ == [1 + int(kept[0].stem) + 3]
    assert many[differ[0]].endswith("kept from before the kill")
    facts = [json.loads(Path(name).read_text()) for name in ("many.json", "one.json")]
    for name in ("data_hash", "fallbacks", "model_hash", "photos"):
        assert facts[0][name] == facts[1][name]


def test_kept_parts_are_of_the_photos_as_they_are_and_are_not_timed(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        write_photo(elsewhere / f"photos/{i}.jpg", i)
    model, samples, output = make_model(elsewhere / "model"), read_image_list(Path("photos")), Path("X.csv")
    settings = PredictOptions(tiny_config().generate, "challenge", batch_size=2)

    def parts() -> list[PredictionPart]:
        return cut_parts(samples, 2, parts_folder(model, samples, settings, output))

    first = parts()
    (photo := elsewhere / "photos/1.jpg").touch()
    changed = parts()
    write_photo(photo, 9, size=50)
    assert len({part.file for kept in (first, changed, parts()) for part in kept}) == 3
    worker = PredictionWorker(str(model), settings, str(elsewhere), 1)
    settings.progress = True  # as the command has it
    for i, part in enumerate(parts()):
        photos = np.array([json.dumps([sample_to_json(one) for one in part.samples])])
        write_text(part.file, worker({"part": np.array([i]), "images": photos})["result"][0])
    assert main(words("X.csv", "--workers", "2")) == 0
    assert "3 photos, 3 of them predicted before, 0.0 photos/s" in capsys.readouterr().out


def test_parts_cover_all_photos_in_whole_batches() -> None:
    for count in (1, 31, 32, 33, 100_000):
        samples = [Sample(Path(str(i)), str(i), "x") for i in range(count)]
        parts = cut_parts(samples, 2, Path("kept"))
        assert [one for part in parts for one in part.samples] == samples
        assert len(parts) <= PARTS
        assert all(len(part.samples) % 2 == 0 for part in parts[:-1])
        assert len(parts[0].samples) >= min(count, 2 * BATCHES)
        assert len({part.file for part in parts}) == len(parts)


def test_what_each_worker_holds() -> None:
    assert worker_resources({"CPU": 16}, 3) == {"num_cpus": 5}
    assert worker_resources({"CPU": 16, "GPU": 4}, 4) == {"num_cpus": 4, "num_gpus": 1}
    for there in ({"CPU": 2}, {"CPU": 16, "GPU": 2}):
        with pytest.raises(UserError, match=r"--workers 3: Ray has .* CPUs.*RAY_ADDRESS"):
            worker_resources(there, 3)


def test_a_cache_is_of_one_process(data: Path) -> None:
    with pytest.raises(UserError, match=r"--workers 2: .*leave --cache out"):
        main(words("X.csv", "--workers", "2", "--cache", "true"))
