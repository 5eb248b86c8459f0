"""The models that the visitor chose, each loaded once for all visitors, and how captions are written.
Held by tests/serving/test_page.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore

import streamlit as st

from src.common.errors import UserError
from src.inference.group_predictor import load_predictor
from src.inference.neighbours import has_neighbours
from src.inference.predict_options import PredictOptions, with_beam, with_rerank
from src.inference.predictor import ImageLimits, Prediction, PredictionError, Predictor
from src.serving.page.model_list import MlflowRuns, available_models, mlflow_runs, named_folder
from src.serving.page_server import PageOptions
from src.tracking.finished_runs import GROUP

MAX_WAIT = 30.0  # seconds that a visitor waits for others


@dataclass
class SelectedModel:
    """A model that the visitor chose.

    Attributes:
        label: name on the page.
        folder: the model's or group's folder.
        modified: time at which its weights were written; a model that is trained again is loaded again.
        predictor: predicts images.
        options: beam and style that the visitor chose.
    """

    label: str
    folder: str
    modified: float
    predictor: Predictor
    options: PredictOptions

    def predict(
        self, page_options: PageOptions, images: list[bytes], options: PredictOptions | None = None
    ) -> list[Prediction | PredictionError]:
        """Predictions for images, as soon as other visitors leave room; with the visitor's options by default.

        Raises:
            UserError: too many other predictions are running.
        """
        gate = prediction_gate(page_options.at_once)
        if not gate.acquire(timeout=MAX_WAIT):
            raise UserError("many photos are being predicted at the moment; try again soon")
        try:
            return self.predictor.predict_bytes(images, options or self.options)
        finally:
            gate.release()


@contextmanager
def show_errors() -> Iterator[None]:
    """Shows a UserError as one line on the page."""
    try:
        yield
    except UserError as error:
        st.error(str(error))


def choose_models(options: PageOptions) -> list[SelectedModel]:
    """The models that the visitor chose, with beam and style; none while the page waits for the first.

    Raises:
        UserError: there are no models.
    """
    mlflow = mlflow_runs()
    names = available_models(options.models, mlflow.runs)
    if not names and not mlflow.loading:
        raise UserError(
            "no model yet: train one, such as python -m src.train --config configs/demo.yaml, or give --model"
        )
    with st.sidebar:
        about = "The model with the highest selected score on its validation photos comes first."
        default = next(iter(names), None)
        labels = st.multiselect("Models", list(names), default=default, key=f"models{default is None}", help=about)
        if mlflow.loading:
            wait_for_mlflow(mlflow)
        models = load_models(options, {label: names[label] for label in labels if label in names})
        choose_captions(models)
    return models


@st.fragment(run_every=1.0)
def wait_for_mlflow(mlflow: MlflowRuns) -> None:
    """Says that models may be added to the list, and shows the page anew once MLflow has answered."""
    if not mlflow.loading:
        st.rerun()
    st.caption("Looking for more models in MLflow …")


def load_models(options: PageOptions, names: dict[str, str]) -> list[SelectedModel]:
    """The models by label -> name for find_model; a model that cannot be loaded is a line on the page."""
    models = []
    for label, name in names.items():
        with show_errors():
            models.append(select_model(options, label, name))
    return models


def choose_captions(models: list[SelectedModel]) -> None:
    """Shows the choice of beam and style, and sets the models' options."""
    if not any(model.predictor.engine.decoder for model in models):
        return
    default_beam = models[0].predictor.description.config.generate.beam
    beam = st.slider("Beam: captions kept at each step", 1, 10, min(max(1, default_beam), 10))
    styles = dict.fromkeys(style for model in models for style in model.predictor.styles())
    style = st.selectbox("Style of the captions", ["as trained", *styles]) if len(styles) > 1 else ""
    rerank = choose_rerank(models)
    for model in models:
        generation = with_beam(model.predictor.description.config.generate, beam)
        generation = with_rerank(generation, rerank and has_neighbours(Path(model.folder)))
        model.options = PredictOptions(generation, style_for_model(model.predictor, style or ""), attention=True)


def choose_rerank(models: list[SelectedModel]) -> bool:
    """Shows the choice of captions by training captions where a model has these."""
    able = [model for model in models if has_neighbours(Path(model.folder))]
    if not able:
        return False
    enabled = any(model.predictor.description.config.generate.rerank.enabled for model in able)
    return st.toggle("Choose captions by those of similar training photos", enabled)


def style_for_model(predictor: Predictor, style: str) -> str:
    """The style where the model knows it; else empty for its default, or where it has none its first style."""
    styles = predictor.styles()
    if style in styles:
        return style
    try:
        predictor.check_captions(PredictOptions())
    except UserError:  # trained in several styles without a default
        return styles[0]
    return ""


def select_model(options: PageOptions, label: str, name: str) -> SelectedModel:
    """A model by its name for find_model, with default options.

    Raises:
        UserError: it has no model folder, or the folder cannot be read.
    """
    folder = named_folder(name)
    file = folder / GROUP if (folder / GROUP).is_file() else folder / "model.safetensors"
    try:
        modified = file.stat().st_mtime
    except OSError as error:
        raise UserError(f"{label}: its folder is gone; choose another model") from error
    predictor = cached_predictor(str(folder), modified, options.megabytes, options.megapixels)
    return SelectedModel(label, str(folder), modified, predictor, PredictOptions())


@st.cache_resource(max_entries=6, show_spinner="loading the model")
def cached_predictor(folder: str, modified: float, megabytes: float, megapixels: float) -> Predictor:
    """The predictor of a model's or a group's folder, shared by all visitors."""
    return load_predictor(folder, ImageLimits(megabytes, megapixels))


@st.cache_resource
def prediction_gate(at_once: int) -> BoundedSemaphore:
    """Limits the number of predictions that run at once."""
    return BoundedSemaphore(at_once)


def predict_photo(options: PageOptions, model: SelectedModel, data: bytes, digest: str) -> Prediction | PredictionError:
    """A model's prediction for a photo, from the cache where it holds it; `digest` is the SHA-256 of the bytes.

    Raises:
        UserError: too many other predictions are running.
    """
    generation, style = model.options.generation, model.options.style
    choice = (generation.beam, generation.rerank.enabled, style)
    return cached_prediction(options, model, data, digest, model.folder, model.modified, choice)


@st.cache_data(max_entries=500, show_spinner="predicting")
def cached_prediction(
    _options: PageOptions,
    _model: SelectedModel,
    _data: bytes,
    digest: str,
    folder: str,
    modified: float,
    choice: tuple[int, bool, str],
) -> Prediction | PredictionError:
    """As predict_photo; the arguments without underscore are the cache's key."""
    return _model.predict(_options, [_data])[0]
