"""The tab of photos: those uploaded, of a web address or of the demo, each with the predictions of every chosen model.
Held by tests/serving/test_page.py.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import cv2
import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from src.data.demo_scenes import random_scene, render_scene
from src.data.image_io import SUFFIXES, decode_image
from src.data.image_url import download_image
from src.inference.predictor import BeamCaption, Prediction, PredictionError
from src.serving.page.attention_view import attention_html
from src.serving.page.model_selection import SelectedModel, predict_photo, show_errors
from src.serving.page.mos_scale import mos_scale_html
from src.serving.page_server import PageOptions, whole_megabytes

PREVIEW_SIDE = 560  # pixels of a photo's longer side on the page
DEMO_PHOTOS = 4


@dataclass
class UploadedPhoto:
    """A photo's bytes, never a path; its index among the photos distinguishes copies of one file."""

    index: int
    name: str
    data: bytes
    digest: str


def show_photo_tab(options: PageOptions, models: list[SelectedModel]) -> None:
    """Shows the upload and the predictions."""
    photos = uploaded_photos(options)
    if not models:
        st.info("Choose a model in the sidebar.")
        return
    for photo in photos:
        with st.container(border=True):
            show_photo(options, photo, models)


def uploaded_photos(options: PageOptions) -> list[UploadedPhoto]:
    """The photos that the visitor uploaded or named by a web address, or those of the demo."""
    types = [suffix[1:] for suffix in SUFFIXES]
    limit = whole_megabytes(options.megabytes)
    files = st.file_uploader("One photo or several", types, accept_multiple_files=True, max_upload_size=limit)
    url = st.text_input("Or the web address of a photo", placeholder="https://…").strip()
    if len(files) > options.photos:
        st.warning(f"{len(files)} photos: only the first {options.photos} are predicted")
    photos = [(file.name, file.getvalue()) for file in files[: options.photos]]
    if url:
        with show_errors():
            photos.append((url_file_name(url), fetch_photo(url)))
    elif not files and st.toggle("Use photos of the demo"):
        photos = [(f"demo {seed + 1}", demo_photo(seed)) for seed in range(DEMO_PHOTOS)]
    return [make_photo(i, name, data) for i, (name, data) in enumerate(photos)]


@st.cache_data(ttl=600, max_entries=8, show_spinner="fetching the photo")
def fetch_photo(url: str) -> bytes:
    """The bytes of a photo on the web.

    Raises:
        UserError: as `download_image`.
    """
    return download_image(url)


def url_file_name(url: str) -> str:
    """The last part of a web address' path, else its host."""
    parts = urlsplit(url)
    return PurePosixPath(parts.path).name or parts.netloc


def make_photo(index: int, name: str, data: bytes) -> UploadedPhoto:
    """A photo with its hash."""
    return UploadedPhoto(index, name, data, sha256(data).hexdigest())


@st.cache_data(max_entries=DEMO_PHOTOS, show_spinner=False)
def demo_photo(seed: int) -> bytes:
    """A rendered scene as PNG, like those that the demo's models are trained on."""
    rng = np.random.default_rng(1000 + seed)
    image = render_scene(random_scene(rng), 256, rng)
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def show_photo(options: PageOptions, photo: UploadedPhoto, models: list[SelectedModel]) -> None:
    """Shows a photo and each model's prediction, side by side; an unreadable photo is one line."""
    predictions: list[Prediction] = []
    for model in models:
        prediction = predict_photo(options, model, photo.data, photo.digest)
        if isinstance(prediction, PredictionError):
            st.text(photo.name)
            st.error(f"This photo {prediction.reason}.")
            return
        predictions.append(prediction)
    note = predictions[0].note
    st.text(f"{photo.name} – {note}" if note else photo.name)
    if len(models) == 1:
        left, right = st.columns(2)
        show_prediction(photo, models[0], predictions[0], left, right)
        return
    for column, model, prediction in zip(st.columns(len(models)), models, predictions, strict=True):
        with column:
            show_prediction(photo, model, prediction, st.container(), st.container())


def show_prediction(
    photo: UploadedPhoto, model: SelectedModel, prediction: Prediction, left: DeltaGenerator, right: DeltaGenerator
) -> None:
    """Shows a model's prediction: on the left the photo with its caption's words; on the right mos, beam and time."""
    with right:
        st.markdown(f"**:blue[{escape_markdown(model.label)}]**")
        if prediction.mos is not None:
            st.html(mos_scale_html(prediction.mos, prediction.place, model.predictor.description.meta))
        key = f"{photo.index}-{photo.digest}-{model.label}-{model.options}"
        caption = choose_caption(prediction.captions, key) if prediction.captions else None
        st.caption(f"{1000 * prediction.seconds:.0f} ms")
    with left:
        preview = photo_preview(photo.data, photo.digest, model.predictor.limits.megapixels)
        st.iframe(attention_html(preview, caption), alt="the photo with the attention of the word below the pointer")


def choose_caption(captions: list[BeamCaption], key: str) -> BeamCaption:
    """The caption of the beam that the visitor chose; by default the best."""
    if len(captions) == 1:
        return captions[0]
    labels = [f"{escape_markdown(caption.text)} :gray[({caption.score:.2f})]" for caption in captions]
    about = "Log probability of the caption over its length to the power of the length penalty; higher is more likely."
    chosen = st.radio("Captions of the beam", range(len(captions)), format_func=labels.__getitem__, key=key, help=about)
    return captions[chosen or 0]


@st.cache_data(max_entries=200, show_spinner=False)
def photo_preview(_data: bytes, digest: str, megapixels: float) -> bytes:
    """The photo as a small JPEG, encoded again from its pixels."""
    pixels = decode_image(_data, most=int(megapixels * 1e6))
    scale = min(1.0, PREVIEW_SIDE / max(pixels.shape[:2]))
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()


def escape_markdown(text: str) -> str:
    """Text that Markdown shows unchanged."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()#+-.!|<>$:~" else letter for letter in text)
