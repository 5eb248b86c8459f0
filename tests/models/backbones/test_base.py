"""Backbones of every kind: shapes, statistics, normalisation, weights, what is frozen, one pass for all."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from src.common.errors import UserError
from src.common.plugins import load_plugin, plugin_names
from src.config.schema import BackboneConfig, Config, ModelConfig
from src.models.backbones.base import PACKAGE, Backbone, native_image_size, resolve_backbone
from src.models.backbones.timm import current_name
from src.models.layers.level_statistics import spatial_statistics

SMALL = BackboneConfig(name="mobilenetv3_small_050", weights="none")


def pixels(count: int = 2, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def make(**changes: object) -> Backbone:
    torch.manual_seed(0)
    return Backbone(replace(SMALL, **changes)).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def small() -> Backbone:
    return make()


@pytest.mark.parametrize(
    ("name", "size", "places", "channels", "levels"),
    [
        ("mobilenetv2_100", 224, 49, 1280, 2 * (16 + 24 + 32 + 96 + 320)),
        ("resnet10t", 96, 9, 512, 2 * (64 + 64 + 128 + 256 + 512)),
        ("vit_tiny_patch16_224", 96, 36, 192, 2 * 4 * 192),
        ("swin_tiny_patch4_window7_224", 96, 9, 768, 2 * (96 + 192 + 384 + 768)),
        ("torchvision/googlenet", 96, 9, 1024, 2 * (64 + 192 + 480 + 832 + 1024)),
        # Two branches of tokens; a class token that timm does not count; no token of a place; maps of each stage.
        ("crossvit_9_240", 240, 196, 256, 2 * (128 + 256) * 3),
        ("coat_lite_tiny", 224, 49, 320, 2 * (64 + 128 + 256 + 320)),
        ("pit_ti_224", 224, 49, 256, 2 * (64 + 128 + 256)),
        ("efficientvim_m1", 224, 16, 320, 2 * (128 + 192 + 320)),
    ],
)
def test_grid_and_levels_of_every_kind(name: str, size: int, places: int, channels: int, levels: int) -> None:
    backbone = make(name=name)
    with torch.inference_mode():
        features = backbone(pixels(2, size, size))
        torch.testing.assert_close(backbone.grid(pixels(2, size, size)), features.grid, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(backbone.levels(pixels(2, size, size)), features.levels)
    assert features.grid.shape == (2, places, channels)
    assert features.levels.shape == (2, levels)
    assert (backbone.grid_channels, backbone.level_size) == (channels, levels)
    assert torch.isfinite(features.levels).all()


def test_grid_is_timms_own_last_layer(small: Backbone) -> None:
    """Normalisation included, and in the order of a row-by-row walk over the places."""
    mean, std = (torch.tensor(small.network.pretrained_cfg[n]).view(3, 1, 1) for n in ("mean", "std"))
    with torch.inference_mode():
        expected = small.network.forward_features((pixels() - mean) / std)
        torch.testing.assert_close(small.grid(pixels())[0, 3], expected[0, :, 1, 1], atol=1e-5, rtol=1e-4)


def test_a_fixed_network_is_made_for_the_size_that_its_options_say() -> None:
    backbone = make(name="convit_tiny", options={"img_size": 64})
    with torch.inference_mode():
        assert backbone.grid(pixels(1, 64, 64)).shape == (1, 16, 192)


def test_odd_sides_are_padded_where_the_network_can() -> None:
    """Photos for mos may have their own size: 100 x 70 pixels are 7 x 5 patches of 16."""
    backbone = make(name="vit_tiny_patch16_224")
    with torch.inference_mode():
        assert backbone.grid(pixels(1, 100, 70)).shape == (1, 35, 192)
        assert torch.isfinite(backbone.levels([pixels(1, 100, 70)[0], pixels(1, 33, 64)[0]])).all()


@pytest.mark.parametrize("name", ["convit_tiny", "dla46_c"])
def test_sizes_that_a_network_does_not_take_are_named_with_its_own(name: str) -> None:
    backbone = make(name=name)
    with (
        torch.inference_mode(),
        pytest.raises(UserError, match=rf"{name} does not take photos of 70 x 100 pixels.*224"),
    ):
        backbone.levels(pixels(2, 100, 70))
    with pytest.raises(RuntimeError, match="type"):  # which has nothing to do with the size
        backbone.levels(torch.rand(1, 3, 224, 224, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "options", "side"),
    [
        ("mobilenetv2_100", {}, 224),
        ("inception_v3", {}, 299),
        ("vit_tiny_patch16_384", {}, 384),
        ("convit_tiny", {"img_size": 128}, 128),
        ("torchvision/googlenet", {}, 224),
        ("blip/nowhere", {"vision": {"image_size": 48}}, 48),
    ],
)
def test_photos_are_as_large_as_the_backbone_was_made_for(name: str, options: dict, side: int) -> None:
    config = Config(model=ModelConfig(BackboneConfig(name=name, weights="none", options=options)))
    both = resolve_backbone(config).data
    assert (both.caption_size, both.mos_size) == (side, side)
    given = resolve_backbone(replace(config, data=replace(config.data, mos_size=0))).data
    assert (given.caption_size, given.mos_size) == (side, 0)
    fixed = replace(config, data=replace(config.data, mos_size=512, caption_size=32))
    assert resolve_backbone(fixed) == fixed
    with pytest.raises(UserError, match="caption_size"):
        resolve_backbone(replace(config, data=replace(config.data, caption_size=0)))


def test_levels_are_means_and_deviations_of_hooked_stages(small: Backbone) -> None:
    seen: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _m, _i, out: seen.append(out)) for block in small.network.blocks]
    with torch.inference_mode():
        levels = small(pixels()).levels
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(small.network.blocks)  # one pass for both
    last = seen[-1].double().flatten(2)
    size = last.shape[1]
    torch.testing.assert_close(levels[:, -2 * size : -size].double(), last.mean(dim=2), atol=1e-5, rtol=1e-4)
    deviation = last.std(dim=2, correction=0)
    torch.testing.assert_close(levels[:, -size:].double(), deviation, atol=1e-3, rtol=1e-3)


def test_deviation_is_stable_far_from_zero() -> None:
    stage = 1000 + 0.1 * torch.randn(2, 4, 64, 64)
    mean, deviation = spatial_statistics(stage)
    torch.testing.assert_close(mean.double(), stage.double().mean(dim=(2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(deviation.double(), stage.double().std(dim=(2, 3), correction=0), rtol=1e-3, atol=0)
    flat = torch.ones(1, 2, 3, 3, requires_grad=True)
    spatial_statistics(flat)[1].sum().backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_own_and_given_normalisation(small: Backbone) -> None:
    given = make(mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 3.0])
    assert given.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    with torch.inference_mode():
        change = (pixels() - small.mean) / small.std * given.std + given.mean
        torch.testing.assert_close(given.levels(change), small.levels(pixels()), atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="mean has 2 values"):
        make(mean=[0.5, 0.5])


def test_photos_of_many_sizes_keep_their_order(small: Backbone) -> None:
    photos = [pixels(1, 64, 64)[0], pixels(1, 96, 64)[0], pixels(1, 64, 64)[0].flip(0), pixels(1, 33, 70)[0]]
    with torch.inference_mode():
        together = small.levels(photos)
        alone = torch.cat([small.levels(photo.unsqueeze(0)) for photo in photos])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_frozen_stays_as_it_is(small: Backbone) -> None:
    before = {name: value.clone() for name, value in small.state_dict().items()}
    small.train()
    features = small(pixels())
    assert not features.levels.requires_grad
    assert not any(p.requires_grad for p in small.parameters())
    assert not any(m.training for m in small.network.modules() if list(m.parameters()))
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet10t", "torchvision/googlenet"])
def test_last_stages_train_alone(name: str) -> None:
    backbone = make(name=name, trainable=1).train()
    trained = [p.requires_grad for p in backbone.network.parameters()]
    assert any(trained)
    assert not trained[0]
    more = sum(p.requires_grad for p in make(name=name, trainable=2).network.parameters())
    assert sum(trained) < more < len(trained)
    features = backbone(pixels())
    (features.grid.sum() + features.levels.sum()).backward()
    assert all((p.grad is not None) == p.requires_grad for p in backbone.network.parameters())
    norms = [m for m in backbone.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert [m.training for m in norms] == [m.weight.requires_grad for m in norms]


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224", "torchvision/googlenet"])
def test_checkpointing_changes_no_gradient(name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = make(name=name, trainable=-1, checkpointing=checkpointing).train()
        backbone.levels(pixels()).sum().backward()
        gradients.append(next(backbone.network.parameters()).grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-3, rtol=1e-3)


def test_bf16_is_near_fp32(small: Backbone) -> None:
    with torch.inference_mode():
        exact = small(pixels())
        with torch.autocast("cpu", torch.bfloat16):
            rough = small(pixels())
    assert rough.levels.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(rough.levels, exact.levels).min() > 0.99


def test_weights_from_a_file(tmp_path: Path, small: Backbone) -> None:
    file = tmp_path / "w.safetensors"
    save_file(timm.create_model(SMALL.name, num_classes=7).state_dict(), file)
    backbone = make(weights=str(file))
    assert backbone.fingerprint() != small.fingerprint()
    assert backbone.fingerprint() == make(weights=str(file)).fingerprint()
    with pytest.raises(UserError, match=r"w\.safetensors does not fit mobilenetv3_small_100"):
        make(name="mobilenetv3_small_100", weights=str(file))
    with pytest.raises(UserError, match="does not fit"):
        make(name="torchvision/googlenet", weights=str(file))


def test_fingerprint_tells_normalisations_apart(small: Backbone) -> None:
    assert make(mean=[0.1, 0.2, 0.3]).fingerprint() != small.fingerprint()
    assert make().fingerprint() == small.fingerprint()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenet_v7", "timm has no mobilenet_v7; did you mean mobilenet"),
        ("ResNet18", r"did you mean resnet18\?"),
        ("efficientnet-b0", r"did you mean efficientnet_b0\?"),
        ("timm/resnet18", r"did you mean resnet18\?"),
        ("hf-hub:timm/resnet18.a1_in1k", r"did you mean resnet18\.a1_in1k\?"),
        ("hf_hub:timm/tv_resnet50", r"did you mean resnet50\.tv_in1k\?"),
        ("xyzzy", r"see timm\.list_models"),
        ("resnet18.nope", "timm's resnet18 has no weights with the tag nope; choose a1_in1k, .*or leave it out"),
    ],
)
def test_unknown_names_get_the_nearest(name: str, message: str) -> None:
    for call in (lambda: make(name=name), lambda: native_image_size(replace(SMALL, name=name))):
        with pytest.raises(UserError, match=message):
            call()


def test_an_older_name_of_timm_is_the_present_network(capsys: pytest.CaptureFixture[str]) -> None:
    """In its image size and in the saved config too."""
    old = replace(SMALL, name="convnext_tiny_384_in22ft1k")
    current_name.cache_clear()
    assert native_image_size(old) == timm.get_pretrained_cfg("convnext_tiny.fb_in22k_ft_in1k_384").input_size[-1] == 384
    assert make(name="ssl_resnet18").config.name == "resnet18.fb_ssl_yfcc100m_ft_in1k"
    assert capsys.readouterr().err == (
        "model.backbone.name: timm calls convnext_tiny_384_in22ft1k convnext_tiny.fb_in22k_ft_in1k_384 today\n"
        "model.backbone.name: timm calls ssl_resnet18 resnet18.fb_ssl_yfcc100m_ft_in1k today\n"
    )


def test_bad_options_are_explained() -> None:
    with pytest.raises(UserError, match="options"):
        make(options={"no_such_option": 1})
    with pytest.raises(UserError, match="options"):
        make(name="torchvision/googlenet", options={"a": 1})


def test_no_hub_fails_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be reached"):
        make(weights="imagenet")


def test_levels_of_named_layers_are_their_outputsspatial_statistics() -> None:
    torch.manual_seed(0)
    backbone = make(levels=r"^blocks\.1\.0\.bn2$|^blocks\.2$|^conv_head$")
    pixels = torch.rand(2, 3, 40, 40)
    outputs = {}
    for name in ("blocks.1.0.bn2", "blocks.2"):
        module = backbone.network.get_submodule(name)
        module.register_forward_hook(lambda module, inputs, output, name=name: outputs.update({name: output}))
    with torch.inference_mode():
        levels = backbone.levels(pixels)
        assert levels.equal(backbone(pixels).levels)
    expected = [
        part
        for output in outputs.values()
        for part in (output.mean(dim=(2, 3)), (output.var(dim=(2, 3), correction=0) + 1e-6).sqrt())
    ]
    torch.testing.assert_close(levels, torch.cat(expected, dim=1))
    assert backbone.level_size == levels.shape[1]
    assert backbone.fingerprint("levels") != make().fingerprint("levels")
    assert backbone.fingerprint("grid") == backbone.fingerprint()


@pytest.mark.parametrize(("levels", "message"), [("nothing", "no module matches"), ("(", "no regular expression")])
def test_levels_that_name_nothing_are_refused(levels: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(levels=levels)


def test_each_file_of_the_folder_makes_networks() -> None:
    plugins = [load_plugin(PACKAGE, name, "model.backbone.name") for name in plugin_names(PACKAGE)]
    assert all(hasattr(plugin, "make_network") and hasattr(plugin, "native_image_size") for plugin in plugins)
