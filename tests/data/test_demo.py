import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from src.common.errors import UserError
from src.config.schema import Config, DataConfig, SourceConfig
from src.data import demo_scenes as scene
from src.data.demo import AWKWARD, AWKWARD_TEST, make_demo
from src.data.image_io import load_image
from src.data.image_list import read_image_list
from src.data.sample import Sample
from src.data.sources import official_splits, read_source, read_sources
from src.data.split import assign_parts
from src.data.validation import check_data


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "demo"
    assert make_demo(folder, photos=100)
    return folder


def config_of(demo: Path) -> DataConfig:
    return DataConfig(
        sources=[
            SourceConfig(format="samsung", path=str(demo / "challenge")),
            SourceConfig(format="flickr8k", path=str(demo / "flickr8k"), split="official"),
        ],
        split_dir=str(demo / "absent"),
    )


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_demo_goes_through_the_readers_and_has_no_problems(demo: Path) -> None:
    config = config_of(demo)
    samples = read_sources(config)
    assert [len(read_source(source)) for source in config.sources] == [80, 100]
    assert all(sample.mos is not None and 1 <= len(sample.captions) <= 3 for sample in samples[:80])
    assert all(sample.mos is None and len(sample.captions) == 5 for sample in samples[80:])
    parts = list(assign_parts(samples[80:], config, official_splits(config), [None] * 100).values())
    assert [parts.count(part) for part in ("train", "val", "test")] == [80, 10, 10]
    assert check_data(Config(data=config)).problems == []


def test_awkward_names_are_in_both_layouts(demo: Path) -> None:
    challenge, flickr = (read_source(source) for source in config_of(demo).sources)
    assert set(AWKWARD) <= {sample.name for sample in challenge}
    assert {f"{name}.jpg" for name in AWKWARD} <= {sample.name for sample in flickr}
    tests = read_image_list(demo / "challenge" / "sample_submission.csv")
    assert set(AWKWARD_TEST) <= {sample.name for sample in tests}
    assert [s.name for s in tests] == [s.name for s in read_image_list(demo / "challenge" / "test.csv")]
    assert len(tests) == 20
    assert all(sample.path.is_file() for sample in tests)


def test_same_seed_same_bytes_other_seed_others(demo: Path, tmp_path: Path) -> None:
    make_demo(tmp_path / "again", photos=100)
    assert contents(tmp_path / "again") == contents(demo)
    make_demo(tmp_path / "other", photos=100, seed=1)
    assert contents(tmp_path / "other") != contents(demo)


def test_second_call_changes_nothing(demo: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*")}
    assert not make_demo(demo)
    assert not make_demo(demo, photos=100, seed=0)
    with pytest.raises(UserError, match="demo: is there already, made with --photos 100, not 300, --seed 0, not 7; "):
        make_demo(demo, photos=300, seed=7)
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*")} == before


def test_another_folder_is_not_touched_and_too_few_photos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no demo data"):
        make_demo(tmp_path)
    with pytest.raises(UserError, match="at least 50"):
        make_demo(tmp_path / "new", photos=10)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_link_to_an_empty_folder_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "render_scene", lambda *_: np.zeros((32, 32, 3), np.uint8))
    monkeypatch.setattr(scene, "degrade", lambda picture, *_: picture)
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert make_demo(tmp_path / "link", photos=50)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "challenge" / "train.csv").is_file()


def test_interrupted_it_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    draw = scene.render_scene

    def interrupted(*args: object) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > 60:
            raise KeyboardInterrupt
        return draw(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(scene, "render_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path / "demo", photos=50)
    assert list(tmp_path.iterdir()) == []


def test_mos_can_be_seen(demo: Path) -> None:
    """Plain statistics of the pixels predict the mos of photos that were not used to fit them."""
    from sklearn.ensemble import ExtraTreesRegressor

    samples = [sample for sample in read_source(config_of(demo).sources[0]) if sample.mos is not None]
    features, mos = np.array([statistics(sample) for sample in samples]), np.array([sample.mos for sample in samples])
    model = ExtraTreesRegressor(200, random_state=0).fit(features[:50], mos[:50])
    assert spearmanr(model.predict(features[50:]), mos[50:])[0] > 0.7


def statistics(sample: Sample) -> list[float]:
    photo = load_image(sample.path)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    grain = np.abs(photo.astype(np.float32) - cv2.medianBlur(photo, 3))
    blocks = np.abs(np.diff(grey, axis=1))
    return [
        float(grey.mean()),
        float(grey.std()),
        float(grain.mean()),
        float(blocks[:, 7::8].mean() - blocks.mean()),
        *np.percentile(edges, [30, 70, 95]).tolist(),
    ]


@pytest.mark.parametrize("kind", scene.ADJECTIVES)
def test_degradation_grows_as_mos_falls(kind: str) -> None:
    rng = np.random.default_rng(0)
    photo = scene.render_scene(scene.random_scene(rng, ("field",)), 96, rng)
    steps = [scene.degrade(photo, kind, mos, np.random.default_rng(1)) for mos in (9, 7, 5, 3, 1)]
    change = [float(np.abs(step.astype(int) - photo).mean()) for step in steps]
    assert change == sorted(change)
    assert change[0] < 5
    assert change[-1] > 10


def test_comments_follow_from_degradation_and_mos() -> None:
    rng = np.random.default_rng(0)
    for kind, word in scene.ADJECTIVES.items():
        texts = {text for _ in range(20) for text in scene.quality_comments(kind, 1.5, rng)}
        assert any(f"very {word}" in text for text in texts)
        assert any("terrible" in text for text in texts)
        fine = {text for _ in range(20) for text in scene.quality_comments(kind, 8.9, rng)}
        assert not any(word in text or "terrible" in text for text in fine)


def test_captions_follow_from_the_scene() -> None:
    red = scene.Shape("red", "ball", 0.25, 0.5, 0.4)
    orange = scene.Shape("orange", "house", 0.75, 0.5, 0.4)
    rng = np.random.default_rng(0)
    texts = scene.scene_captions(scene.Scene("night", (red, orange), vertical=False), rng)
    assert len(texts) == 5
    assert all("ed ball" in text and "an orange house" in text.lower() and text.endswith(" .") for text in texts)
    assert texts[0].startswith("A red ball")
    assert "to the left of an orange house at night" in texts[0]
    above = scene.scene_captions(scene.Scene("sky", (red, orange), vertical=True), rng)
    assert "below a red ball under a blue sky" in above[1]


def test_things_are_where_and_what_the_caption_says() -> None:
    """Renders a scene and finds its colours: the first thing to the left, or above."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        drawn = scene.random_scene(rng, ("field",))
        photo = scene.render_scene(drawn, 96, rng).astype(int)
        middles = []
        for thing in drawn.things:
            rows, columns = np.nonzero(np.abs(photo - scene.COLOURS[thing.colour]).sum(axis=2) < 12)
            middles.append((rows if drawn.vertical else columns).mean())
        assert middles == sorted(middles)


def test_tables_are_plain_csv(demo: Path) -> None:
    train = pd.read_csv(demo / "challenge" / "train.csv", dtype=str)
    assert list(train.columns) == ["img_name", "img_path", "mos", "comments"]
    assert train.groupby("img_name")["mos"].nunique().max() == 1
    answers = pd.read_csv(demo / "challenge" / "test_answers.csv", dtype=str)
    sample = pd.read_csv(demo / "challenge" / "sample_submission.csv", dtype=str)
    assert answers["img_name"].drop_duplicates().tolist() == sample["img_name"].tolist()
