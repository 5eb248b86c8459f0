"""Both heads on one backbone: losses, missing labels, one pass, prediction."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from src.common.errors import UserError
from src.config.schema import BackboneConfig, DecoderConfig, ModelConfig, MosConfig
from src.data.batch import Batch, TaskInput
from src.models.backbones.base import Backbone
from src.models.multitask import MultitaskModel

V = 12
NAN = float("nan")
CONFIG = ModelConfig(
    backbone=BackboneConfig(name="mobilenetv3_small_050", weights="none"),
    mos=MosConfig(hidden=8, dropout=0.0, losses={"mse": 1.0, "huber": 0.5, "plcc": 0.25, "rank": 0.1}),
    decoder=DecoderConfig(
        embedding=8, hidden=8, attention_size=4, dropout=0.0, word_dropout=0.0, grid_dropout=0.0, label_smoothing=0.0
    ),
)


def make(**changes: object) -> MultitaskModel:
    torch.manual_seed(0)
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    return MultitaskModel(config, Backbone(config.backbone), V, styles=2)


def batch(shared: bool = True) -> Batch:
    torch.manual_seed(1)
    pixels, rows = torch.rand(4, 3, 64, 64), torch.arange(4)
    tokens = torch.randint(5, V, (4, 2, 6))
    tokens[:, :, 0], tokens[:, :, -1] = 3, 2
    quality = TaskInput(rows, pixels)
    captioning = TaskInput(rows, pixels if shared else pixels.clone())
    return Batch(
        list("abcd"), ["x"] * 4, torch.full((4,), 3), torch.tensor([5.0, 6, 7, 4]), tokens, quality, captioning
    )


def counted(model: MultitaskModel) -> Callable[[], int]:
    calls: list[int] = []
    model.backbone.network.conv_stem.register_forward_hook(lambda *_: calls.append(1))
    return lambda: len(calls)


def test_total_is_the_weighted_sum() -> None:
    losses = make(mos_weight=2.0, caption_weight=0.5).losses(batch())
    mos = losses["mos_mse"] + 0.5 * losses["mos_huber"] + 0.25 * losses["mos_plcc"] + 0.1 * losses["mos_rank"]
    torch.testing.assert_close(losses["loss"], 2 * mos + 0.5 * losses["caption_ce"])


def test_learned_weights_are_kendalls() -> None:
    model = make(task_weights="learned", mos=replace(CONFIG.mos, losses={"mse": 1.0}))
    assert model.log_variance is not None
    with torch.no_grad():
        model.log_variance.copy_(torch.tensor([0.3, -0.7]))
    losses = model.losses(batch())
    expected = losses["mos_mse"] / math.exp(0.3) + 0.15 + losses["caption_ce"] / math.exp(-0.7) - 0.35
    torch.testing.assert_close(losses["loss"], expected)
    losses["loss"].backward()
    assert model.log_variance.grad is not None
    assert model.log_variance.grad.all()


@pytest.mark.parametrize("shared", [True, False])
def test_the_backbone_runs_once_for_shared_pixels(shared: bool) -> None:
    model = make().eval()
    calls = counted(model)
    losses = model.losses(batch(shared))
    assert calls() == (1 if shared else 2)
    torch.testing.assert_close(losses["loss"], make().eval().losses(batch(not shared))["loss"], atol=1e-4, rtol=1e-4)


def test_cached_features_are_as_good_as_pixels() -> None:
    model, live = make().eval(), batch()
    with torch.no_grad():
        features = model.backbone(live.mos_input.pixels)  # type: ignore[union-attr, arg-type]
    rows = torch.arange(4)
    cached = replace(
        live, mos_input=TaskInput(rows, None, features.levels), caption_input=TaskInput(rows, None, features.grid)
    )
    calls = counted(model)
    losses = model.losses(cached)
    assert calls() == 0
    torch.testing.assert_close(losses["loss"], model.losses(live)["loss"])


def test_missing_labels_never_contribute() -> None:
    model, whole = make().eval(), batch()
    holes = replace(whole, mos=torch.tensor([5.0, NAN, 7, 4]), tokens=whole.tokens.clone())
    holes.tokens[2] = 0
    holes.tokens[0, 1] = 0
    rows = torch.tensor([0, 2, 3])
    few = replace(holes, mos_input=TaskInput(rows, whole.mos_input.pixels[rows]))  # type: ignore[union-attr, index]
    rows = torch.tensor([0, 1, 3])
    few = replace(few, caption_input=TaskInput(rows, whole.caption_input.pixels[rows]))  # type: ignore[union-attr, index]
    with_holes, without = model.losses(holes), model.losses(few)
    for name, value in with_holes.items():
        torch.testing.assert_close(value, without[name], atol=1e-5, rtol=1e-4)


def test_no_label_at_all_gives_a_finite_loss() -> None:
    model = make(mos=replace(CONFIG.mos, losses={"mse": 1.0, "huber": 0.5, "rank": 0.1}))
    empty = replace(batch(), mos=torch.full((4,), NAN), tokens=torch.zeros(4, 2, 6, dtype=torch.long))
    losses = model.losses(empty)
    losses["loss"].backward()
    assert losses["loss"] == 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert not any(g.any() for g in gradients)
    nothing = model.losses(replace(batch(), mos_input=None, caption_input=None))
    assert set(nothing) == {"loss"}


@pytest.mark.parametrize("head", ["mos", "decoder"])
def test_either_head_alone(head: str) -> None:
    off = "decoder" if head == "mos" else "mos"
    model = make(**{off: replace(getattr(CONFIG, off), enabled=False)}).eval()
    losses = model.losses(batch())
    assert ("caption_ce" in losses) == (head == "decoder")
    assert ("mos_mse" in losses) == (head == "mos")
    outputs = model(batch())
    assert (outputs.mos is None) == (head == "decoder")
    assert (outputs.grid is None) == (head == "mos")


def test_both_heads_off_is_an_error() -> None:
    with pytest.raises(UserError, match="both heads are off"):
        make(mos=MosConfig(enabled=False), decoder=DecoderConfig(enabled=False))


def test_a_frozen_backbone_stays_in_eval_mode() -> None:
    model = make().train()
    assert model.decoder is not None
    assert model.decoder.training
    assert not any(m.training for m in model.backbone.network.modules() if list(m.parameters()))
    model.losses(batch())["loss"].backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    trained = make(backbone=replace(CONFIG.backbone, trainable=-1)).train()
    trained.losses(batch())["loss"].backward()
    learned = [p.grad is not None for p in trained.backbone.parameters()]
    assert learned == [p.requires_grad for p in trained.backbone.parameters()]
    assert sum(learned) > len(learned) - 4  # all but layers after the features
