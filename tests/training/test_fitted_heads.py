"""Runs whose mos head is fitted at once: alone, beside a decoder, in prediction and in ONNX."""

import csv
import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from src.common.errors import UserError
from src.config.loader import load_config
from src.export import main as export
from src.inference.export_check import load_float32
from src.inference.onnx_runtime import load_onnx
from src.inference.predict_options import PredictOptions
from src.models.backbones.base import Backbone
from src.models.model_folder import load_model_folder
from src.predict import main as predict
from src.tracking.run_log import read_metrics
from src.train import main as train
from src.training.config_checks import check_config
from src.training.datamodule import DataModule
from tests.training.test_run import QUALITY, experiment

CACHED = ("--config", "tiny.yaml", "--data.cache", "true")


def mos_column(path: str) -> list[float]:
    """The mos of a submission."""
    with Path(path).open() as file:
        return [float(row["mos"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "kind", ["svr", pytest.param("ridge", marks=pytest.mark.slow), pytest.param("gbm", marks=pytest.mark.slow)]
)
def test_a_fitted_head_alone_needs_no_epoch_and_predicts_everywhere(
    kind: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "gbm":
        pytest.importorskip("lightgbm")
    experiment(elsewhere)
    options = ("--model.mos.gbm.leaf_photos", "2") if kind == "gbm" else ()
    assert train([*CACHED, *QUALITY, "--model.mos.kind", kind, *options]) == 0
    assert "mos head fitted to 16 photos in" in capsys.readouterr().err
    assert not list(Path("runs/tiny/checkpoints").glob("*"))
    result = json.loads(Path("runs/tiny/result.json").read_text())
    assert result["seconds"] > 0
    assert predict(["--model", "tiny", "--data", "data/train", "--output", "live.csv"]) == 0
    assert len(set(mos_column("live.csv"))) > 10
    assert export(["--model", "tiny", "--output", "onnx", "--check", "0"]) == 0
    photos = [path.read_bytes() for path in sorted(Path("data/train").iterdir())]
    models = load_float32(Path("runs/tiny/model")), load_onnx(Path("onnx"))
    plain, exported = ([one.mos for one in model.predict_bytes(photos, PredictOptions())] for model in models)  # type: ignore[union-attr]
    assert exported == pytest.approx(plain, abs=1e-4)


def test_beside_a_fitted_head_the_decoder_trains_on_captions_alone(elsewhere: Path) -> None:
    file = experiment(elsewhere, epochs=2)
    table = Path("data/train.csv")
    rows = table.read_text().splitlines()
    mute = [",".join([*row.split(",")[:3], ""]) for row in rows[1:17]]  # the first eight photos have no comment
    table.write_text("\n".join([rows[0], *mute, *rows[17:]]))
    assert train([*CACHED, "--model.mos.kind", "svr"]) == 0
    history = read_metrics(Path("runs/tiny/history.jsonl"))
    assert {"val/plcc", "val/caption_ce", "val/loss"} <= history.keys()
    assert not [name for name in history if "mos_mse" in name]
    config = load_config(file, {"data.cache": True, "model.mos.kind": "svr"})
    data = DataModule(config, Backbone(config.model.backbone), progress=False)
    batches = list(islice(data.train_loader(), len(data.train_loader())))
    captioned = {sample.name for sample in data.parts["train"] if sample.captions}
    assert {name for batch in batches for name in batch.names} == captioned < {s.name for s in data.parts["train"]}
    assert all(batch.mos_input is None for batch in batches)

    # Its decoder is a start for a run with another head.
    more = ["--train.start_from", "tiny", "--track.name", "second", "--train.epochs", "0"]
    assert train([*CACHED, "--model.mos.kind", "ridge", *more]) == 0
    first, second = (load_model_folder(Path(f"runs/{name}/model")).model for name in ("tiny", "second"))
    assert torch.equal(first.decoder.words.weight, second.decoder.words.weight)  # type: ignore[union-attr, arg-type]
    assert second.mos.weight.any()  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.cache": False}, "model.mos.kind: svr is fitted to the feature store; set data.cache true"),
        ({"model.mos.kind": "svm"}, "model.mos.kind: there is no svm; did you mean svr"),
        ({"model.mos.svr.c": 0}, "model.mos.svr.c: is 0, should be greater than 0"),
        ({"model.mos.options.C": 1}, "model.mos.options.C: there is no such key; there are c, epsilon, gamma"),
        ({"model.mos.kind": "mlp", "model.mos.options": {"c": 1}}, "kind mlp has no options of its own; remove c"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_config(load_config("configs/demo.yaml", {"model.mos.kind": "svr", **overrides}))


def test_a_group_of_another_kind_is_left_out() -> None:
    config = load_config(None, {"model.mos.svr": {"c": 9}, "model.mos.gbm.trees": 7, "model.mos.kind": "gbm"})
    assert config.model.mos.options["trees"] == 7
    assert "c" not in config.model.mos.options
