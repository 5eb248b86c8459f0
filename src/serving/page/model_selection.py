"""Which models the page offers, and the chosen ones, each loaded once for all visitors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore

import streamlit as st

from src.common.errors import UserError
from src.inference.predict_options import PredictOptions, with_beam
from src.inference.predictor import ImageLimits, Prediction, PredictionError, Predictor
from src.serving.page_server import PageOptions
from src.tracking.run_registry import find_model, is_model_folder, list_runs, short_name

MOST = 50  # runs offered
PATIENCE = 30.0  # seconds that a visitor waits for others


@dataclass
class SelectedModel:
    """A chosen model.

    Attributes:
        label: as the page calls it.
        folder: the model folder.
        changed: when its weights were written, so that a model trained anew is loaded anew.
        answerer: what answers.
        ask: how, as the visitor chose.
    """

    label: str
    folder: str
    changed: float
    answerer: Predictor
    ask: PredictOptions


@contextmanager
def errors_on_page() -> Iterator[None]:
    """A mistake is one line on the page."""
    try:
        yield
    except UserError as error:
        st.error(str(error))


def choose_models(options: PageOptions) -> list[SelectedModel]:
    """The models that the visitor picks, with beam and style.

    Raises:
        UserError: there are no models.
    """
    offered = offered_models(options.models)
    if not offered:
        raise UserError(
            "no model yet: train one, such as python -m src.train --config configs/demo.yaml, or give --model"
        )
    with st.sidebar:
        labels = st.multiselect("Models", list(offered), default=next(iter(offered)))
        models = [select_model(options, label, offered[label]) for label in labels if label in offered]
        own = models[0].answerer.description.config.generate.beam if models else 3
        beam = st.slider("Beam: captions kept at each step", 1, 10, min(max(1, own), 10))
        known = dict.fromkeys(style for one in models for style in one.answerer.styles())
        style = st.selectbox("Style of the captions", ["as trained", *known]) if len(known) > 1 else ""
    for one in models:
        generation = with_beam(one.answerer.description.config.generate, beam)
        one.ask = PredictOptions(generation, style_for_model(one, style or ""), attention=True)
    return models


def style_for_model(one: SelectedModel, wanted: str) -> str:
    """The style asked for where the model knows it, else its own, else the first there is."""
    known = one.answerer.styles()
    if wanted in known:
        return wanted
    try:
        one.answerer.check_style(PredictOptions())
    except UserError:  # trained in several, none of which goes before the others
        return known[0]
    return ""


@st.cache_data(ttl=30, show_spinner="looking for models")
def offered_models(named: tuple[str, ...]) -> dict[str, str]:
    """Label -> what find_model takes: those named, the folders of runs here, the newest finished runs in MLflow."""
    offered: dict[str, str] = {}
    first = {find_model(name).resolve() for name in named}
    here = [one for one in sorted(Path("runs").glob("*/model")) if is_model_folder(one) and one.resolve() not in first]
    for name in [*named, *map(str, here)]:
        label = short_name(name)
        offered.setdefault(label if offered.get(label, name) == name else f"{label} ({len(offered) + 1})", name)
    try:
        runs = [run for run in list_runs(status="FINISHED") if run.tags.get("kind") != "sweep"][:MOST]
    except UserError:  # none are kept in MLflow; folders there may be
        return offered
    there = first | {one.resolve() for one in here}
    kept = [run for run in runs if not (run.folder and (run.folder / "model").resolve() in there)]
    return offered | {f"{run.name} ({run.id[:6]})": run.id for run in kept}


def select_model(options: PageOptions, label: str, name: str) -> SelectedModel:
    """A model by what find_model takes.

    Raises:
        UserError: it kept no model, or that cannot be read.
    """
    folder = find_model(name)
    changed = (folder / "model.safetensors").stat().st_mtime
    answerer = cached_predictor(str(folder), changed, options.megabytes, options.megapixels)
    return SelectedModel(label, str(folder), changed, answerer, PredictOptions())


@st.cache_resource(max_entries=6, show_spinner="loading the model")
def cached_predictor(folder: str, changed: float, megabytes: float, megapixels: float) -> Predictor:
    """A model folder's answerer, shared by all visitors."""
    return Predictor.load(Path(folder), ImageLimits(megabytes, megapixels))


@st.cache_resource
def prediction_gate(at_once: int) -> BoundedSemaphore:
    """Lets so many photos be answered at once."""
    return BoundedSemaphore(at_once)


def predict_photo(options: PageOptions, one: SelectedModel, data: bytes, digest: str) -> Prediction | PredictionError:
    """A model's answer for a photo, remembered; `digest` is the SHA-256 of its bytes.

    Raises:
        UserError: too many others are asking.
    """
    ask = one.ask
    return cached_prediction(options, one, data, digest, one.folder, one.changed, ask.generation.beam, ask.style)


@st.cache_data(max_entries=500, show_spinner=False)
def cached_prediction(
    _options: PageOptions,
    _one: SelectedModel,
    _data: bytes,
    digest: str,
    folder: str,
    changed: float,
    beam: int,
    style: str,
) -> Prediction | PredictionError:
    """As answer; what does not begin with an underscore decides whether an answer is known."""
    door = prediction_gate(_options.at_once)
    if not door.acquire(timeout=PATIENCE):
        raise UserError("many photos are being answered just now; try again in a moment")
    try:
        return _one.answerer.predict_bytes([_data], _one.ask)[0]
    finally:
        door.release()
