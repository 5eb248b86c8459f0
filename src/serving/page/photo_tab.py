"""The tab of photos: uploaded ones or the demo's, each with what every chosen model says of it."""

from dataclasses import dataclass
from hashlib import sha256

import cv2
import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from src.data import demo_scenes as scene
from src.data.image_io import SUFFIXES, decode
from src.inference.predictor import Answer, Caption, Refused
from src.serving.page.attention_view import looking
from src.serving.page.model_selection import Model, answer
from src.serving.page.mos_scale import scale
from src.serving.page_server import Options

SHOWN = 560  # pixels of a photo's longer side on the page
DEMO = 4


@dataclass
class Photo:
    """A file as it came, never a path, and its place among the photos, which sets copies of one file apart."""

    place: int
    name: str
    data: bytes
    digest: str


def show(options: Options, models: list[Model]) -> None:
    """Upload, answers."""
    photos = take(options)
    if not models:
        st.info("Choose a model at the side.")
        return
    for photo in photos:
        with st.container(border=True):
            show_photo(options, photo, models)


def take(options: Options) -> list[Photo]:
    """The photos that the visitor uploaded, or the demo's."""
    kinds = [suffix[1:] for suffix in SUFFIXES]
    files = st.file_uploader("One photo or many", type=kinds, accept_multiple_files=True)
    if not files:
        wanted = st.toggle("Take photos of the demo")
        return [made(i, f"demo {i + 1}", demo_photo(i)) for i in range(DEMO)] if wanted else []
    if len(files) > options.photos:
        st.warning(f"{len(files)} photos: the first {options.photos} are answered")
    return [made(i, file.name, file.getvalue()) for i, file in enumerate(files[: options.photos])]


def made(place: int, name: str, data: bytes) -> Photo:
    """A photo with its hash."""
    return Photo(place, name, data, sha256(data).hexdigest())


@st.cache_data(max_entries=DEMO, show_spinner=False)
def demo_photo(seed: int) -> bytes:
    """A rendered scene as PNG, as those that the demo's models are trained on."""
    rng = np.random.default_rng(1000 + seed)
    picture = scene.draw(scene.random_scene(rng), 256, rng)
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def show_photo(options: Options, photo: Photo, models: list[Model]) -> None:
    """A photo and each model's answer, side by side; a bad photo is one line."""
    found: list[Answer] = []
    for one in models:
        said = answer(options, one, photo.data, photo.digest)
        if isinstance(said, Refused):
            st.text(photo.name)
            st.error(f"This photo {said.reason}.")
            return
        found.append(said)
    st.text(f"{photo.name} – {found[0].note}" if found[0].note else photo.name)
    if len(models) == 1:
        left, right = st.columns(2)
        show_answer(photo, models[0], found[0], left, right)
        return
    for column, one, said in zip(st.columns(len(models)), models, found, strict=True):
        with column:
            show_answer(photo, one, said, st.container(), st.container())


def show_answer(photo: Photo, one: Model, said: Answer, picture: DeltaGenerator, numbers: DeltaGenerator) -> None:
    """A model's answer: the photo with its caption's words in one place; mos, the beam and the time in the other."""
    with numbers:
        st.markdown(f"**:blue[{escape(one.label)}]**")
        if said.mos is not None:
            st.html(scale(said.mos, said.place, one.answerer.about.meta))
        key = f"{photo.place}-{photo.digest}-{one.label}-{one.ask}"
        caption = choose(said.captions, key) if said.captions else None
        st.caption(f"{1000 * said.seconds:.0f} ms")
    with picture:
        pixels = preview(photo.data, photo.digest, one.answerer.limits.megapixels)
        st.iframe(looking(pixels, caption), alt="the photo, and where the model looked for the word pointed at")


def choose(captions: list[Caption], key: str) -> Caption:
    """The caption that the visitor picks of the beam; the best first."""
    if len(captions) == 1:
        return captions[0]
    shown = [f"{escape(one.text)} :gray[({one.score:.2f})]" for one in captions]
    about = "Log probability of the caption over its length to the power of the length penalty: nearer 0 is likelier."
    picked = st.radio("Captions of the beam", range(len(captions)), format_func=shown.__getitem__, key=key, help=about)
    return captions[picked or 0]


@st.cache_data(max_entries=200, show_spinner=False)
def preview(_data: bytes, digest: str, megapixels: float) -> bytes:
    """The photo as a small JPEG, written anew from its pixels."""
    pixels = decode(_data, most=int(megapixels * 1e6))
    factor = min(1.0, SHOWN / max(pixels.shape[:2]))
    size = [max(1, round(side * factor)) for side in pixels.shape[1::-1]]
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if factor < 1 else pixels
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()#+-.!|<>$:~" else letter for letter in text)
