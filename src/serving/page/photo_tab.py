"""The tab of photos: uploaded ones or the demo's, each with what every chosen model says of it."""

from dataclasses import dataclass
from hashlib import sha256

import cv2
import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from src.data import demo_scenes as scene
from src.data.image_io import SUFFIXES, decode_image
from src.inference.predictor import BeamCaption, Prediction, PredictionError
from src.serving.page.attention_view import attention_html
from src.serving.page.model_selection import SelectedModel, predict_photo
from src.serving.page.mos_scale import mos_scale_html
from src.serving.page_server import PageOptions

SHOWN = 560  # pixels of a photo's longer side on the page
DEMO = 4


@dataclass
class UploadedPhoto:
    """A file as it came, never a path, and its place among the photos, which sets copies of one file apart."""

    place: int
    name: str
    data: bytes
    digest: str


def show_photo_tab(options: PageOptions, models: list[SelectedModel]) -> None:
    """Upload, answers."""
    photos = uploaded_photos(options)
    if not models:
        st.info("Choose a model at the side.")
        return
    for photo in photos:
        with st.container(border=True):
            show_photo(options, photo, models)


def uploaded_photos(options: PageOptions) -> list[UploadedPhoto]:
    """The photos that the visitor uploaded, or the demo's."""
    kinds = [suffix[1:] for suffix in SUFFIXES]
    files = st.file_uploader("One photo or many", type=kinds, accept_multiple_files=True)
    if not files:
        wanted = st.toggle("Take photos of the demo")
        return [make_photo(i, f"demo {i + 1}", demo_photo(i)) for i in range(DEMO)] if wanted else []
    if len(files) > options.photos:
        st.warning(f"{len(files)} photos: the first {options.photos} are answered")
    return [make_photo(i, file.name, file.getvalue()) for i, file in enumerate(files[: options.photos])]


def make_photo(place: int, name: str, data: bytes) -> UploadedPhoto:
    """A photo with its hash."""
    return UploadedPhoto(place, name, data, sha256(data).hexdigest())


@st.cache_data(max_entries=DEMO, show_spinner=False)
def demo_photo(seed: int) -> bytes:
    """A rendered scene as PNG, as those that the demo's models are trained on."""
    rng = np.random.default_rng(1000 + seed)
    picture = scene.render_scene(scene.random_scene(rng), 256, rng)
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def show_photo(options: PageOptions, photo: UploadedPhoto, models: list[SelectedModel]) -> None:
    """A photo and each model's answer, side by side; a bad photo is one line."""
    found: list[Prediction] = []
    for one in models:
        said = predict_photo(options, one, photo.data, photo.digest)
        if isinstance(said, PredictionError):
            st.text(photo.name)
            st.error(f"This photo {said.reason}.")
            return
        found.append(said)
    st.text(f"{photo.name} – {found[0].note}" if found[0].note else photo.name)
    if len(models) == 1:
        left, right = st.columns(2)
        show_prediction(photo, models[0], found[0], left, right)
        return
    for column, one, said in zip(st.columns(len(models)), models, found, strict=True):
        with column:
            show_prediction(photo, one, said, st.container(), st.container())


def show_prediction(
    photo: UploadedPhoto, one: SelectedModel, said: Prediction, picture: DeltaGenerator, numbers: DeltaGenerator
) -> None:
    """A model's answer: the photo with its caption's words in one place; mos, the beam and the time in the other."""
    with numbers:
        st.markdown(f"**:blue[{escape_markdown(one.label)}]**")
        if said.mos is not None:
            st.html(mos_scale_html(said.mos, said.place, one.answerer.description.meta))
        key = f"{photo.place}-{photo.digest}-{one.label}-{one.ask}"
        caption = choose_caption(said.captions, key) if said.captions else None
        st.caption(f"{1000 * said.seconds:.0f} ms")
    with picture:
        pixels = preview(photo.data, photo.digest, one.answerer.limits.megapixels)
        st.iframe(attention_html(pixels, caption), alt="the photo, and where the model looked for the word pointed at")


def choose_caption(captions: list[BeamCaption], key: str) -> BeamCaption:
    """The caption that the visitor picks of the beam; the best first."""
    if len(captions) == 1:
        return captions[0]
    shown = [f"{escape_markdown(one.text)} :gray[({one.score:.2f})]" for one in captions]
    about = "Log probability of the caption over its length to the power of the length penalty: nearer 0 is likelier."
    picked = st.radio("Captions of the beam", range(len(captions)), format_func=shown.__getitem__, key=key, help=about)
    return captions[picked or 0]


@st.cache_data(max_entries=200, show_spinner=False)
def preview(_data: bytes, digest: str, megapixels: float) -> bytes:
    """The photo as a small JPEG, written anew from its pixels."""
    pixels = decode_image(_data, most=int(megapixels * 1e6))
    factor = min(1.0, SHOWN / max(pixels.shape[:2]))
    size = [max(1, round(side * factor)) for side in pixels.shape[1::-1]]
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if factor < 1 else pixels
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()#+-.!|<>$:~" else letter for letter in text)
