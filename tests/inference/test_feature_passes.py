"""Mos heads on several networks and sizes: the same from the feature cache, live, after reload and in ONNX."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from src.common.errors import UserError
from src.config.loader import load_config
from src.config.schema import Config, MosBackboneConfig
from src.data.image_io import load_image
from src.data.transforms import resize_for_task, stack_images
from src.ensemble import main as ensemble
from src.export import main as export
from src.inference.export_check import load_float32
from src.inference.feature_passes import FeaturePass, feature_passes
from src.inference.group_predictor import GroupPredictor, load_predictor
from src.inference.model_loading import load_members
from src.inference.onnx_runtime import load_onnx
from src.inference.predict_options import PredictOptions
from src.inference.predictor import Prediction, Predictor
from src.models.backbones.base import resolve_backbone
from src.models.model_folder import load_model_folder
from src.predict import main as predict
from src.train import main as train
from src.training.config_checks import check_config
from tests.tiny import make_model, tiny_config
from tests.training.test_run import QUALITY, experiment

FURTHER = {"name": "test_efficientnet", "weights": "none", "sizes": [32]}
NETWORKS = [{**FURTHER, "sizes": [32, 48]}, {"sizes": [40]}]  # another network at two sizes, and the first at another
CACHED = ("--config", "tiny.yaml", "--data.cache", "true", *QUALITY)


def train_on(networks: list[dict[str, object]], kind: str, *more: str) -> None:
    """Trains the experiment with further networks."""
    assert train([*CACHED, "--model.mos.backbones", json.dumps(networks), "--model.mos.kind", kind, *more]) == 0


def mos_column(path: str) -> list[float]:
    """The mos of a submission."""
    with Path(path).open() as file:
        return [float(row["mos"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("kind", ["ridge", "mlp"])
def test_the_same_mos_from_the_cache_live_and_by_hand_after_reload(kind: str, elsewhere: Path) -> None:
    experiment(elsewhere)
    train_on(NETWORKS, kind)
    files = sorted(Path("data/train").iterdir())
    for cache in ("true", "false"):
        options = ["--model", "tiny", "--data", "data/train", "--cache", cache, "--output", f"{cache}.csv"]
        assert predict(options) == 0
    assert mos_column("true.csv") == pytest.approx(mos_column("false.csv"), abs=1e-4)

    model = load_model_folder(Path("runs/tiny/model")).model
    main, second, again = model.networks
    assert again is main
    photos = [load_image(path) for path in files]
    with torch.inference_mode():
        levels = [
            network.levels(stack_images([resize_for_task(photo, size) for photo in views]))
            for views in (photos, [np.ascontiguousarray(photo[:, ::-1]) for photo in photos])
            for network, size in [(main, 32), (second, 32), (second, 48), (main, 40)]
        ]
        views = [model.mos(torch.cat(levels[at : at + 4], dim=1)) for at in (0, 4)]  # type: ignore[misc]
    assert mos_column("false.csv") == pytest.approx(torch.stack(views).mean(0).tolist(), abs=3e-4)  # rounded to bf16
    assert len(set(mos_column("false.csv"))) > 10
    # The networks' weights lie in the model folder, each once.
    names = "".join(load_names(Path("runs/tiny/model/model.safetensors")))
    assert "mos_backbones.0." in names
    assert "mos_backbones.1." not in names


def load_names(path: Path) -> list[str]:
    """The tensors of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def test_models_share_their_networks_in_ensembles_and_groups(elsewhere: Path) -> None:
    experiment(elsewhere)
    train_on(NETWORKS, "ridge")
    train_on(NETWORKS, "ordinal", "--track.name", "second")
    options = ["--data", "data/train", "--output", "joint.csv"]
    assert ensemble(["--models", "tiny", "second", *options]) == 0
    for name in ("tiny", "second"):
        assert predict(["--model", name, "--data", "data/train", "--output", f"{name}.csv"]) == 0
    mean = np.mean([mos_column(f"{name}.csv") for name in ("tiny", "second")], axis=0)
    assert mos_column("joint.csv") == pytest.approx(mean, abs=1e-4)

    members = [loaded for loaded, _ in load_members([Path(f"runs/{name}/model") for name in ("tiny", "second")])]
    assert [id(network) for network in members[0].model.networks] == [id(n) for n in members[1].model.networks]
    bytes_of = [path.read_bytes() for path in sorted(Path("data/train").iterdir())[:4]]
    group = GroupPredictor.of_members(members).predict_bytes(bytes_of, PredictOptions())
    assert [one.mos for one in group if isinstance(one, Prediction)] == pytest.approx(mean[:4].tolist(), abs=1e-3)
    assert isinstance(load_predictor("tiny"), Predictor)


def test_an_export_holds_all_networks_of_one_size(elsewhere: Path) -> None:
    experiment(elsewhere)
    train_on([FURTHER], "ridge")
    assert export(["--model", "tiny", "--output", "onnx", "--check", "0"]) == 0
    photos = [path.read_bytes() for path in sorted(Path("data/train").iterdir())]
    models = load_float32(Path("runs/tiny/model")), load_onnx(Path("onnx"))
    plain, exported = ([one.mos for one in model.predict_bytes(photos, PredictOptions())] for model in models)  # type: ignore[union-attr]
    assert exported == pytest.approx(plain, abs=1e-4)

    train_on(NETWORKS, "ridge", "--track.name", "sizes")
    with pytest.raises(UserError, match="model.mos.backbones: an export reads one image size for mos"):
        export(["--model", "sizes", "--output", "more", "--check", "0"])
    assert not Path("more").exists()


def test_passes_begin_with_the_models_backbone_and_share_its_grid() -> None:
    config = tiny_config()
    config.model.mos.backbones = [MosBackboneConfig("test_efficientnet", "none"), MosBackboneConfig(sizes=[24])]
    first = [FeaturePass(0, 32, ("levels", "grid")), FeaturePass(1, 32, ("levels",)), FeaturePass(2, 24, ("levels",))]
    assert feature_passes(config) == first
    config.data.caption_size = 24
    assert feature_passes(config)[-1] == FeaturePass(0, 24, ("grid",))
    assert feature_passes(config, mos=False) == [FeaturePass(0, 24, ("grid",))]
    config.model.mos.backbones[1].sizes = [-1]
    side = resolve_backbone(config).model.mos.backbones[1].sizes
    assert side == [160]  # timm's test networks are made for it


def test_tiles_and_scales_are_views_whose_mos_are_averaged(elsewhere: Path) -> None:
    experiment(elsewhere)
    train_on([{**FURTHER, "sizes": [96]}], "ridge", "--data.mos_size", "64")
    options = ["--model", "tiny", "--data", "data/train", "--output"]
    views = ["--views.tiles", "2", "--views.overlap", "0.5", "--views.scales", "[1.0, 0.75]"]
    assert predict([*options, "views.csv", *views]) == 0
    assert predict([*options, "cached.csv", *views, "--cache", "true"]) == 0
    assert mos_column("cached.csv") == mos_column("views.csv")

    photos = [load_image(path) for path in sorted(Path("data/train").iterdir())]
    model = load_model_folder(Path("runs/tiny/model")).model
    with torch.inference_mode():
        mos = [
            model.mos(
                torch.cat([network.levels(pixels) for network, pixels in zip(model.networks, pair, strict=True)], 1)
            )  # type: ignore[misc]
            for flip in (False, True)
            for sizes in [(64, 96), (48, 72)]
            for pair in zip(*(cut(photos, size, flip) for size in sizes), strict=True)
        ]
    assert len(mos) == 20
    assert mos_column("views.csv") == pytest.approx(torch.stack(mos).mean(0).tolist(), abs=3e-4)

    # A model's own views are those of the page and the API.
    config = Path("runs/tiny/model/config.yaml")
    tree = yaml.safe_load(config.read_text())
    tree["model"]["mos"]["views"] = {"tiles": 2, "overlap": 0.5, "scales": [1.0, 0.75]}
    config.write_text(yaml.safe_dump(tree))
    predictor = Predictor.load(config.parent)
    [one] = predictor.predict_bytes([sorted(Path("data/train").iterdir())[0].read_bytes()], PredictOptions())
    assert isinstance(one, Prediction)
    assert one.mos == pytest.approx(mos_column("views.csv")[0], abs=3e-4)
    with pytest.raises(UserError, match=r"model.mos.views: an export reads whole photos of one size; set tiles 1"):
        export(["--model", "tiny", "--output", "onnx", "--check", "0"])


def cut(photos: list[np.ndarray], size: int, flip: bool) -> list[torch.Tensor]:
    """Photos of a size [R, 3, H, W], whole and as 2 x 2 tiles that overlap by half of a tile's side."""
    pixels = stack_images([resize_for_task(photo, size) for photo in photos])
    assert isinstance(pixels, torch.Tensor)
    third = size // 3  # a tile is two thirds of the side
    tiles = [pixels[:, :, y : y + 2 * third, x : x + 2 * third] for y in (0, third) for x in (0, third)]
    return [part.flip(3) if flip else part for part in [pixels, *tiles]]


def test_views_that_a_model_cannot_predict_are_refused(elsewhere: Path) -> None:
    experiment(elsewhere)
    make_model(Path("own"), replace_data(tiny_config(captions=False), mos_size=0))
    options = ["--data", "data/train", "--output", "x.csv"]
    with pytest.raises(UserError, match="views.scales: the mos head reads photos at their own size"):
        predict(["--model", "own", *options, "--views.scales", "[0.5]"])
    make_model(Path("mute"), tiny_config(mos=False))
    with pytest.raises(UserError, match="--views: no mos is predicted; leave it out"):
        predict(["--model", "mute", *options, "--views.tiles", "2"])
    make_model(Path("small"), tiny_config(captions=False))
    with pytest.raises(UserError, match="views.tiles: each of 2 tiles in a row has only 19 pixels; give fewer"):
        predict(["--model", "small", *options, "--views.tiles", "2"])


def replace_data(config: Config, **changes: object) -> Config:
    """A config with other settings of its data."""
    return replace(config, data=replace(config.data, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("networks", "changes", "message"),
    [
        (
            [FURTHER],
            {"data.cache": False},
            "model.mos.backbones: are read from the feature cache for mos; set data.cache",
        ),
        ([{}], {}, r"model.mos.backbones\[0\]: has neither a name nor sizes; give a timm model"),
        (
            [{"name": "test_efficientnet", "size": 3}],
            {},
            r"model.mos.backbones\[0\].size: there is no such key; did you mean si",
        ),
    ],
)
def test_wrong_networks_are_refused_in_one_line(
    networks: list[dict[str, object]], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_config(load_config("configs/demo.yaml", {"model.mos.backbones": networks, **changes}))


def test_missing_weights_name_the_entry(elsewhere: Path) -> None:
    experiment(elsewhere)
    networks = [FURTHER, {**FURTHER, "weights": "lost.safetensors"}]
    with pytest.raises(UserError, match=r"model.mos.backbones\[1\].weights: lost.safetensors is no file"):
        train([*CACHED, "--model.mos.backbones", json.dumps(networks)])
