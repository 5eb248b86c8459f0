"""The tab of the camera of the visitor's browser: a picture with all predictions, or live captions.
Held by tests/serving/test_page.py.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from src.common.errors import UserError
from src.inference.predictor import PredictionError
from src.serving.page.model_selection import SelectedModel
from src.serving.page.photo_tab import make_photo, show_photo
from src.serving.page_server import PageOptions

OFF, PICTURE, LIVE = "Off", "Take a picture", "Live captions"
VIDEO = st.components.v2.component(
    "live_captions",
    html=Path(__file__).with_name("live_captions.html").read_text(encoding="utf-8"),
    js=Path(__file__).with_name("live_captions.js").read_text(encoding="utf-8"),
)


def show_camera_tab(options: PageOptions, models: list[SelectedModel]) -> None:
    """Shows the camera once the visitor has turned it on: the browser asks for permission then, and not before."""
    about = "The browser gives a page its camera on this machine (localhost) and over https only."
    mode = st.radio("Camera", [OFF, PICTURE, LIVE], horizontal=True, help=about)
    if not models:
        st.info("Choose a model in the sidebar.")
    elif mode == PICTURE:
        if picture := st.camera_input("Picture", resolution="720p"):
            show_photo(options, make_photo(0, "picture", picture.getvalue()), models)
    elif mode == LIVE:
        if len(models) > 1:
            st.caption(f"Only {models[0].label} writes live captions: the first of the chosen models.")
        show_live_captions(options, models[0])


@st.fragment
def show_live_captions(options: PageOptions, model: SelectedModel) -> None:
    """Shows the video with the prediction of the last frame.

    The browser sends a frame, and the next only when it has the prediction: frames meanwhile are dropped. The rest of
    the page is not run anew.
    """
    answer = st.session_state.get("live_answer", {})
    VIDEO(key="live", data=answer, default={"frame": None}, on_frame_change=partial(predict_last_frame, options, model))


def predict_last_frame(options: PageOptions, model: SelectedModel) -> None:
    """Predicts the frame that the browser has sent."""
    st.session_state["live_answer"] = predict_frame(options, model, st.session_state["live"]["frame"])


def predict_frame(options: PageOptions, model: SelectedModel, frame: Mapping[str, Any]) -> dict[str, Any]:
    """The prediction of a video frame, or the error to show.

    Args:
        frame: `id`, a number that the answer repeats, and `image`, the file in base64.

    Returns:
        id, and mos (text), caption and milliseconds; or id and error.
    """
    try:
        data = base64.b64decode(str(frame["image"]), validate=True)
        prediction = model.predict(options, [data], replace(model.options, attention=False))[0]
    except (UserError, binascii.Error) as error:
        return {"id": frame["id"], "error": str(error)}
    if isinstance(prediction, PredictionError):
        return {"id": frame["id"], "error": f"The video {prediction.reason}."}
    mos = "" if prediction.mos is None else f"mos {prediction.mos:.2f}"
    caption = prediction.captions[0].text if prediction.captions else ""
    return {"id": frame["id"], "mos": mos, "caption": caption, "milliseconds": round(1000 * prediction.seconds)}
