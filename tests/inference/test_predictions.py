"""Predictions of a batch: flip averaging, rows without a prediction, and how parts are joined and chosen."""

import numpy as np
import pytest
import torch

from src.config.schema import GenerationConfig
from src.data.batch import Batch, TaskInput
from src.inference.engine import TorchEngine
from src.inference.predictions import Predictions, image_mos, predict_batch, predict_batches
from src.models.model_folder import LoadedModel, load_model_folder
from src.models.multitask import MultitaskOutputs
from tests.tiny import make_model

GENERATION = GenerationConfig(beam=2, max_length=6)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model_folder(make_model(tmp_path_factory.mktemp("run") / "model"))


def batch_of(size: int, quality: TaskInput | None, captioning: TaskInput | None) -> Batch:
    names = [f"image {i}" for i in range(size)]
    mos = torch.arange(size, dtype=torch.float32)
    style, tokens = torch.full((size,), 3), torch.zeros(size, 0, 0, dtype=torch.int64)
    return Batch(names, ["x"] * size, style, mos, tokens, quality, captioning, [[name] for name in names])


def test_mos_is_the_mean_over_views_of_the_rows_that_have_it() -> None:
    batch = batch_of(3, TaskInput(torch.tensor([0, 2]), features=torch.zeros(2, 2, 1)), None)
    mos = image_mos(MultitaskOutputs(torch.tensor([[1.0, 3.0], [5.0, 6.0]])), batch).tolist()
    assert (mos[0], mos[2]) == (2.0, 5.5)
    assert np.isnan(mos[1])
    assert image_mos(MultitaskOutputs(torch.tensor([1.0, 5.0])), batch).tolist()[::2] == [1.0, 5.0]
    assert image_mos(MultitaskOutputs(), batch).isnan().all()


def test_features_give_the_predictions_of_pixels(loaded: LoadedModel) -> None:
    """Validation in training computes pixels; prediction computes features, with several views of mos."""
    pixels, rows = torch.rand(4, 3, 32, 32), torch.arange(4)
    model = loaded.model
    with torch.inference_mode():
        levels, mirrored = model.backbone.levels(pixels), model.backbone.levels(pixels.flip(3))
        grid = model.backbone.grid(pixels)
    task = TaskInput(rows, pixels)
    of_pixels = predict_batches(model, [batch_of(4, task, TaskInput(rows, pixels))], GENERATION, loaded.tokenizer)
    views = torch.stack([levels, mirrored], dim=1)
    batch = batch_of(4, TaskInput(rows, features=views), TaskInput(rows, features=grid))
    engine = TorchEngine(loaded)
    of_features = predict_batch(engine, batch.to(engine.device), GENERATION, loaded.tokenizer)
    assert of_features.captions == of_pixels.captions
    assert len(set(of_features.captions)) > 1
    other = predict_batches(model, [batch_of(4, TaskInput(rows, pixels.flip(3)), None)], GENERATION, loaded.tokenizer)
    np.testing.assert_allclose(of_features.mos, np.mean([of_pixels.mos, other.mos], axis=0), rtol=1e-5)
    assert other.captions == [""] * 4


def test_unreadable_images_have_no_prediction(loaded: LoadedModel) -> None:
    batch = batch_of(3, TaskInput(torch.tensor([0, 2]), torch.rand(2, 3, 32, 32)), None)
    batch.unreadable = [1]
    predictions = predict_batches(loaded.model, [batch, batch], GENERATION, loaded.tokenizer)
    assert predictions.names == ["image 0", "image 2"] * 2
    assert predictions.mos_true == [0.0, 2.0] * 2
    assert np.isfinite(predictions.mos).all()


def test_parts_are_joined_and_rows_chosen() -> None:
    part = Predictions(["a", "b"], ["x", "x"], [1.0, 2.0], [1.5, 2.5], ["one", "two"], [["r"], []])
    joined = Predictions.join([part, part])
    assert len(joined) == 4
    assert joined.select([3, 0]) == Predictions(
        ["b", "a"], ["x", "x"], [2.0, 1.0], [2.5, 1.5], ["two", "one"], [[], ["r"]]
    )
    assert joined.without([0, 1]) == part
