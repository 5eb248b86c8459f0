"""The split by photo-caption pairs leaks, the honest one does not, and neither is mistaken for the other."""

from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.schema import Config, DataConfig, SourceConfig
from src.data.leaky_split import as_caption_pairs
from src.data.sample import Sample
from src.data.sources import official_splits, read_sources
from src.data.split import part_samples, split_images
from src.data.validation import check_data
from src.inference.model_loading import load_model
from src.training.datamodule import DataModule
from src.training.run import load_start_weights
from tests.tiny import make_model, tiny_config, write_photo

PHOTOS, CAPTIONS = 40, 5


def config(folder: Path, split: str) -> DataConfig:
    """Flickr8k's layout with five captions a photo, cut 80/10/10."""
    lines = []
    for i in range(PHOTOS):
        write_photo(folder / "Images" / f"{i}.jpg", i, size=16)
        lines += [f"{i}.jpg#{k}\tphoto {i} in words {k}" for k in range(CAPTIONS)]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    source = SourceConfig(format="flickr8k", path=str(folder), split=split)  # type: ignore[arg-type]
    return DataConfig(sources=[source], val=0.1, test=0.1, split_dir=str(folder / "splits"))


def cut(data: DataConfig) -> dict[str, list[Sample]]:
    samples = read_sources(data)
    parts = split_images(samples, data, official_splits(data))
    return {part: part_samples(samples, parts, part) for part in ("train", "val", "test")}


def test_test_photos_stand_in_training_under_pairs_and_not_by_photo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = cut(config(tmp_path, "random"))
    assert capsys.readouterr().err.count("stand in training") == 0
    leaking = cut(config(tmp_path, "leaking_pairs"))
    seen = {part: {s.path for s in samples} for part, samples in leaking.items()}
    # A test pair's photo is in training unless its four other captions are all held out: 0.2 ** 4.
    assert len(seen["test"] & seen["train"]) >= 0.9 * len(seen["test"])
    warned = capsys.readouterr().err
    assert f"{len(seen['test'] & seen['train'])} of {len(seen['test'])} test photos" in warned
    assert [len(leaking[part]) for part in ("train", "val", "test")] == [160, 20, 20]
    assert {len(sample.captions) for sample in leaking["test"]} == {1}
    paths = {part: {s.path for s in samples} for part, samples in honest.items()}
    assert not paths["train"] & (paths["val"] | paths["test"])
    assert cut(config(tmp_path, "random")) == honest  # each split has a file of its own
    assert cut(config(tmp_path, "leaking_pairs")) == leaking


def test_a_pair_carries_its_own_caption_and_no_mos() -> None:
    photo = Sample(Path("x.jpg"), "x", "a", 5.0, ("one", "two"))
    assert as_caption_pairs([photo, Sample(Path("y.jpg"), "y", "a", 4.0)]) == [
        Sample(Path("x.jpg"), "x#0", "a", None, ("one",)),
        Sample(Path("x.jpg"), "x#1", "a", None, ("two",)),
    ]


def test_the_leak_does_not_get_in_by_accident(tmp_path: Path) -> None:
    data = config(tmp_path, "leaking_pairs")
    report = check_data(Config(data=data))
    assert report.failed
    assert "leaking_pairs" in report.problems[0].what
    data.sources.append(SourceConfig(path=str(tmp_path), name="honest"))
    with pytest.raises(UserError, match="goes with no other"):
        read_sources(data)


def test_a_model_that_saw_held_out_photos_is_told_of_and_starts_no_honest_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking, honest = (config(tmp_path, split).sources for split in ("leaking_pairs", "random"))
    folder = make_model(tmp_path / "model", tiny_config(mos=False, sources=leaking))
    loaded, _ = load_model(str(folder))
    assert "was trained under split leaking_pairs" in capsys.readouterr().err
    own = tiny_config(mos=False, sources=honest)
    own.data.split_dir = str(tmp_path / "splits")
    with pytest.raises(UserError, match="was trained on held-out photos"):
        load_start_weights(str(folder), loaded.model, DataModule(own))
