"""A model's predictions as training labels: read from a submission, never held out, with a weight on their losses."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from src.common.errors import UserError
from src.config.schema import Config, SourceConfig
from src.data.formats import pseudo_labels
from src.data.sources import make_split, official_splits, read_sources
from src.data.split import split_images
from src.inference.neighbour_builder import collect_neighbours
from src.inference.predictor import Predictor
from src.models.backbones.base import Backbone
from src.models.losses._cross_entropy import caption_cross_entropy
from src.models.multitask import MultitaskModel
from src.tracking.run_log import read_metrics
from src.train import main as train
from src.training.config_checks import check_config
from src.training.datamodule import DataModule
from tests.tiny import make_model, tiny_config, write_photo
from tests.training.test_run import experiment

CSV = "img_name,mos,comments\nnew0,5.5,a sharp scene\nnew1,,a dark photo\nnew2,6.5,\nnew3,,\n"


def make_sources(folder: Path, table: str = CSV, copies: int = 0, **changes: object) -> Config:
    """The tiny experiment's labelled photos and four new ones, of which the first are copies of labelled photos."""
    experiment(folder)
    for i in range(4):
        write_photo(folder / "new" / f"new{i}.jpg", 900 + i)
    for i, photo in enumerate(sorted((folder / "data/train").iterdir())[:copies]):
        shutil.copyfile(photo, folder / f"new/new{i}.jpg")
    (folder / "predictions.csv").write_text(table)
    pseudo = SourceConfig("pseudo_labels", "new", captions="predictions.csv", weight=0.25, style="samsung")
    config = tiny_config(sources=[SourceConfig("samsung", "data"), pseudo])
    for name, value in {"val": 0.33, "split_dir": "cache/splits", **changes}.items():
        setattr(config.data, name, value)
    return config


def test_a_row_without_mos_or_comment_trains_the_other_head(elsewhere: Path) -> None:
    config = make_sources(elsewhere)
    data = DataModule(config)
    samples = {s.name: s for s in data.parts["train"] if s.source == "pseudo_labels"}
    assert {name: (s.mos, len(s.captions)) for name, s in samples.items()} == {
        "new0": (5.5, 1),
        "new1": (None, 1),
        "new2": (6.5, 0),
    }
    assert samples["new0"].path == Path("new/new0.jpg")
    images = data.dataset("train")
    batch = images.__getitems__(list(next(iter(data.train_loader().batches))))
    assert batch.weight is not None
    assert [(w == 0.25) == (s == "pseudo_labels") for w, s in zip(batch.weight, batch.sources, strict=True)]
    assert data.dataset("val").weights is None
    pseudo = [i for i, source in enumerate(images.sources) if source == "pseudo_labels"]
    assert images.weights is not None
    assert images.weights[pseudo].tolist() == [0.25] * 3
    assert images.weights.sum() == len(images) - 3 + 0.75


@pytest.mark.parametrize("changes", [{}, {"folds": 3, "fold": 1}, {"val": 0.5, "test": 0.2}])
@pytest.mark.parametrize("split", ["random", "official", "auto"])
def test_no_photo_is_held_out_and_the_others_keep_their_split(
    changes: dict[str, object], split: str, elsewhere: Path
) -> None:
    config = make_sources(elsewhere, copies=4, **changes)
    config.data.sources[1].split = split  # type: ignore[assignment]
    labelled = [config.data.sources[0]]
    parts = split_images(read_sources(config.data), config.data, official_splits(config.data))
    config.data.sources = labelled
    alone = split_images(read_sources(config.data), config.data, official_splits(config.data))
    assert {key: part for key, part in parts.items() if key[0] == "samsung"} == alone
    names = [photo.stem for photo in sorted(Path("data/train").iterdir())[:4]]
    originals = [alone[("samsung", name)] for name in names]
    assert len({*originals}) > 1
    expected = {("pseudo_labels", f"new{i}"): "train" for i, part in enumerate(originals) if part == "train"}
    assert {key: part for key, part in parts.items() if key[0] == "pseudo_labels"} == expected


def test_what_people_did_not_label_decides_no_vocabulary_and_no_mos_scale(elsewhere: Path) -> None:
    config = make_sources(elsewhere, CSV.replace("a sharp scene", "zebra zebra zebra").replace("6.5", "99"))
    data, plain = DataModule(config), DataModule(tiny_like(config))
    assert data.tokenizer.to_json() == plain.tokenizer.to_json()
    assert data.meta()["mos_range"] == plain.meta()["mos_range"]
    assert "pseudo_labels" in make_split(config.data)
    folder = make_model(Path("model"), config, styles=("samsung",))
    chosen = collect_neighbours(Predictor.load(folder), data.parts["train"])
    assert len(chosen.images) == sum(bool(s.captions) for s in plain.parts["train"])


def tiny_like(config: Config) -> Config:
    """The config without pseudo-labels."""
    plain = tiny_config(sources=config.data.sources[:1])
    plain.data.val, plain.data.split_dir = config.data.val, config.data.split_dir
    return plain


def test_weights_multiply_the_caption_losses(elsewhere: Path) -> None:
    config = make_sources(elsewhere)
    data = DataModule(config)
    model = MultitaskModel(config.model, Backbone(config.model.backbone), data.tokenizer.size, 1).eval()
    images = data.dataset("train")
    batch = images.__getitems__(list(next(iter(data.train_loader().batches))))
    assert batch.caption_input is not None
    batch.weight = torch.linspace(0.2, 2, len(batch))
    with torch.no_grad():
        grid = model.backbone.grid(batch.caption_input.pixels)  # type: ignore[arg-type]
        [(value, words)] = model.caption_ce(grid, batch).values()
        tokens = batch.tokens[batch.caption_input.rows]
        total = 0.0
        for i, row in enumerate(batch.caption_input.rows.tolist()):
            logits = model.decoder(grid[i : i + 1], tokens[i : i + 1])  # type: ignore[misc]
            count = int((tokens[i, :, 1:] != 0).sum())
            smoothing = config.model.decoder.label_smoothing
            total += float(batch.weight[row] * count * caption_cross_entropy(logits, tokens[i : i + 1], smoothing))
    assert value.item() == pytest.approx(total / words, rel=1e-4)


@pytest.mark.parametrize("kind", ["mlp", "ridge"])
def test_a_run_with_pseudo_labels_trains_and_is_scored_on_peoples_labels(kind: str, elsewhere: Path) -> None:
    make_sources(elsewhere)
    source = "{format: pseudo_labels, path: new, captions: predictions.csv, weight: 0.5, style: challenge}"
    labelled = "{format: samsung, path: data, name: challenge}"
    options = ["--data.cache", "true", "--model.mos.kind", kind, "--train.epochs", "1"]
    assert train(["--config", "tiny.yaml", *options, "--data.sources", f"[{labelled}, {source}]"]) == 0
    history = read_metrics(Path("runs/tiny/history.jsonl"))
    assert np.isfinite(history["val/plcc"][-1][1])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (CSV + "new0,5,\n", "predictions.csv: photo new0 has 2 rows; give the predictions of one model"),
        ("img_name,mos\nnew0,high\n", "predictions.csv: row 2: mos 'high' is no number"),
        ("name,mos\nnew0,5\n", "predictions.csv: has no column img_name"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(table: str, message: str, elsewhere: Path) -> None:
    config = make_sources(elsewhere, table)
    with pytest.raises(UserError, match=message):
        pseudo_labels.read_samples(config.data.sources[1])


def test_a_missing_table_and_a_penalty_without_weights_are_refused(elsewhere: Path) -> None:
    config = make_sources(elsewhere)
    config.model.decoder.doubly_stochastic = 1.0
    with pytest.raises(UserError, match="doubly_stochastic: has no weights of sources"):
        check_config(config)
    config.data.sources[1].captions = "lost.csv"
    with pytest.raises(UserError, match="data source pseudo_labels: no predictions lost.csv; name the table"):
        read_sources(config.data)
