"""A decoder, a mos head and a loss from one new file each, trained, used and exported by the commands.

The files are those that docs/extending.md shows.
"""

import csv
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import src.models.decoders
import src.models.losses
import src.models.mos_heads
from src.common.errors import UserError
from src.common.plugins import VARIABLE
from src.config.loader import load_config
from src.config.plugin_keys import DECODERS, LOSSES, MOS_HEADS
from src.config.schema import DecoderConfig, ModelConfig
from src.export import main as export
from src.models.decoders.base import make_decoder
from src.models.losses.base import load_losses
from src.models.mos_heads.base import FittedHead, make_mos_head
from src.predict import main as predict
from src.tracking.run_log import read_metrics
from src.train import main as train
from tests.models.contract import (
    C,
    V,
    a_grid,
    check_learns_what_it_sees,
    check_missing_captions_change_nothing,
    check_stepwise_is_forward,
    some_tokens,
)
from tests.training.test_run import experiment

FILES = Path(__file__).parents[1] / "fixtures/plugins/models"
SETTINGS = {"kind": "pooled_gru", "options": {"units": 8}, "dropout": 0.0, "word_dropout": 0.0, "grid_dropout": 0.0}
PLUGINS = (f"{DECODERS}.pooled_gru", f"{LOSSES}.log_cosh", f"{MOS_HEADS}.nearest")


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of SRC_PLUGINS with both files; it and its modules are forgotten afterwards."""
    for package in (src.models.decoders, src.models.losses, src.models.mos_heads):
        monkeypatch.setattr(package, "__path__", list(package.__path__))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "plugins"))
    shutil.copytree(FILES, tmp_path / "plugins/models")
    yield tmp_path / "plugins"
    for name in PLUGINS:
        sys.modules.pop(name, None)


def test_a_new_decoder_and_loss_train_predict_and_export(plugins: Path, elsewhere: Path) -> None:
    base = experiment(elsewhere, epochs=1, checkpoint_steps=0)
    tree = {"include": base.name, "model": {"decoder": SETTINGS, "mos": {"losses": {"log_cosh": 0.5}}}}
    Path("mine.yaml").write_text(yaml.safe_dump(tree))
    assert train(["--config", "mine.yaml", "--model.decoder.pooled_gru.units", "12", "--model.mos.mse=0"]) == 0
    config = load_config("runs/tiny/model/config.yaml")
    assert (config.model.decoder.options, config.model.mos.losses) == ({"units": 12}, {"mse": 0.0, "log_cosh": 0.5})
    history = read_metrics(Path("runs/tiny/history.jsonl"))
    assert "val/mos_log_cosh" in history
    assert "val/mos_mse" not in history

    assert predict(["--model", "tiny", "--data", "data/train", "--output", "mine.csv"]) == 0
    with Path("mine.csv").open() as file:
        assert all(float(row["mos"]) and row["comments"] for row in csv.DictReader(file))

    assert export(["--model", "tiny", "--output", "onnx"]) == 0
    assert {"start.onnx", "step.onnx"} <= {path.name for path in Path("onnx").iterdir()}


def test_the_new_decoder_is_a_decoder(plugins: Path) -> None:
    torch.manual_seed(0)
    grid, tokens = a_grid(), some_tokens([[8, 2, 5, 3], [0, 7, 8, 4], [1, 8, 6, 3]])
    decoder = make_decoder(DecoderConfig(**SETTINGS), V, C).eval()
    check_stepwise_is_forward(decoder, grid, tokens, torch.full((12, 6), 1 / 6))
    check_missing_captions_change_nothing(decoder, grid, tokens)
    options = {"options": {"units": 32}}
    check_learns_what_it_sees(make_decoder(DecoderConfig(**{**SETTINGS, **options}), V, C), lr=0.02, steps=100)


def test_the_new_mos_head_predicts_from_its_neighbours(plugins: Path) -> None:
    model: ModelConfig = load_config(None, {"model.mos.kind": "nearest", "model.mos.nearest.neighbours": 2}).model
    head = make_mos_head(model.mos, 3)
    assert isinstance(head, FittedHead)
    levels, mos = torch.tensor([[0.0, 1, 2], [0.1, 1, 2], [9, 9, 9], [9.1, 9, 9]]).unsqueeze(1), torch.arange(4.0)
    head.fit(levels, mos)
    torch.testing.assert_close(head(levels[:, 0]), torch.tensor([0.5, 0.5, 2.5, 2.5]))


def test_the_new_loss_is_its_formula(plugins: Path) -> None:
    predicted, target = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    (loss,) = load_losses({"log_cosh": 2.0, "mse": 0.0}).values()
    torch.testing.assert_close(loss(predicted, target), (predicted - target).cosh().log().mean())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.decoder.options.units": 0}, r"units: is 0, should be greater than or equal to 1"),
        ({"model.decoder.options.unit": 3}, r"model\.decoder\.options\.unit: .*did you mean units\?"),
        ({"model.decoder.pooled_gru.unit": 3}, r"unknown key .*; did you mean model\.decoder\.pooled_gru\.units\?"),
        (
            {"model.decoder.kind": "merge", "model.decoder.options": {"units": 3}},
            "merge has no options .* remove units",
        ),
        ({"model.decoder.kind": "pooled"}, r"there is no pooled; did you mean pooled_gru\?"),
        ({"model.mos.losses": {"log_cos": 1}}, r"there is no log_cos; did you mean log_cosh\?"),
        ({"model.mos.log_cosh": -1}, r"model\.mos\.(losses\.)?log_cosh: is -1, should be greater than or equal to 0"),
        ({"model.decoder.bidirectional": True}, "bidirectional: kind pooled_gru does not have it; set it false"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(plugins: Path, overrides: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        make_decoder(load_config(None, {"model.decoder.kind": "pooled_gru", **overrides}).model.decoder, V, C)
    assert "\n" not in str(error.value)


def test_a_group_of_another_kind_is_checked_and_left_out(plugins: Path) -> None:
    tree = {"model.decoder.pooled_gru": {"units": 3}, "model.decoder.llama": {"dim": 64}}
    assert load_config(None, tree).model.decoder.options == {}
    assert load_config(None, {**tree, "model.decoder.kind": "pooled_gru"}).model.decoder.options == {"units": 3}
    with pytest.raises(UserError, match=r"model\.decoder\.llama\.dim: is 0|dim: is 0"):
        load_config(None, {**tree, "model.decoder.llama": {"dim": 0}})
