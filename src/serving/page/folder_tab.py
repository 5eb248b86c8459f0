"""The tab of many photos: predictions for those of a folder or a zip, as a table to sort and as downloads.
Held by tests/serving/test_page.py.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pandas as pd
import streamlit as st

from src.data.image_folder import is_hidden
from src.data.image_io import SUFFIXES
from src.data.image_list import read_image_list
from src.inference.predictor import Prediction, PredictionError
from src.serving.page.downloads import captions_zip, submission_csv
from src.serving.page.model_selection import SelectedModel
from src.serving.page.zip_photos import PhotoSource, describe_counts, read_zip
from src.serving.page_server import PageOptions, whole_megabytes

FOLDER, ZIP = "A folder of this machine", "A zip of photos"
MAX_FOLDERS = 200
BATCH = 8
COLUMNS = {
    "mos": st.column_config.NumberColumn(format="%.2f"),
    "above, %": st.column_config.NumberColumn(format="%.0f", help="Share of the training photos with a lower mos."),
    "score": st.column_config.NumberColumn(
        format="%.2f", help="Log probability of the caption; higher is more likely."
    ),
    "seconds": st.column_config.NumberColumn(format="%.3f"),
}


class PhotoSet(NamedTuple):
    """Photos to predict: their name on the page, the photos, and a remark on files that are not among them."""

    title: str
    photos: list[PhotoSource]
    remark: str = ""


class PredictedSet(NamedTuple):
    """A table of predictions with its title and remarks."""

    title: str
    table: pd.DataFrame
    remark: str


def show_folder_tab(options: PageOptions, models: list[SelectedModel]) -> None:
    """Shows the choice of photos and model, the table and its downloads."""
    folders = image_folders(options.folders)
    kinds = [FOLDER, ZIP] if folders else [ZIP]
    kind = st.radio(
        "Photos of", kinds, horizontal=True, help="Folders are those of --folder when the page was started."
    )
    left, middle, right = st.columns([3, 2, 1])
    with left:
        read = choose_folder(folders) if kind == FOLDER else choose_zip(options)
    label = middle.selectbox("Model", [model.label for model in models], placeholder="Choose one in the sidebar")
    most = right.number_input("Photos at most", 1, 10_000, 100)
    chosen = [model for model in models if model.label == label]
    pressed = st.button("Predict", type="primary", disabled=not (chosen and read))
    with st.empty():  # the place of the bar
        if pressed and chosen and read:
            st.session_state["folder"] = predict_set(options, chosen[0], read(), int(most))
    if "folder" in st.session_state:
        show_set(st.session_state["folder"])


def choose_folder(folders: dict[str, str]) -> Callable[[], PhotoSet] | None:
    """Shows the choice of a folder. Returns the function that lists its photos."""
    label = st.selectbox("Folder", list(folders))
    return partial(folder_photos, label, Path(folders[label])) if label in folders else None


def choose_zip(options: PageOptions) -> Callable[[], PhotoSet] | None:
    """Shows the upload of a zip. Returns the function that lists its photos; None before the upload."""
    about = f"A photo in it has at most {options.megabytes:g} MB. Hidden files are left out."
    limit = whole_megabytes(options.zip_megabytes)
    file = st.file_uploader("Zip of photos", "zip", max_upload_size=limit, help=about)
    return partial(zip_photos, file.name, file, options.megabytes) if file else None


@st.cache_data(ttl=60, show_spinner=False)
def image_folders(roots: tuple[str, ...]) -> dict[str, str]:
    """Label -> folder: the roots and the folders below them that hold photos, at most MAX_FOLDERS."""
    folders: dict[str, str] = {}
    for root in map(Path, roots):
        for folder in [root, *sorted(path for path in root.rglob("*") if path.is_dir())] if root.is_dir() else []:
            hidden = any(map(is_hidden, folder.relative_to(root).parts))
            if not hidden and any(file.suffix.lower() in SUFFIXES for file in folder.iterdir()):
                folders[printable(str(folder))] = str(folder)
            if len(folders) == MAX_FOLDERS:
                return folders
    return folders


def folder_photos(title: str, folder: Path) -> PhotoSet:
    """The photos in and below a folder.

    Raises:
        UserError: it holds none.
    """
    samples = read_image_list(folder)
    return PhotoSet(title, [PhotoSource(printable(s.name), partial(read_photo, s.path)) for s in samples])


def zip_photos(title: str, file: BinaryIO, megabytes: float) -> PhotoSet:
    """The photos of a zip, each of at most some megabytes.

    Raises:
        UserError: as `read_zip`.
    """
    content = read_zip(file, megabytes)
    return PhotoSet(title, content.photos, describe_counts(content.left_out))


def read_photo(path: Path) -> bytes | PredictionError:
    """A photo's bytes, or why they cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        return PredictionError(f"cannot be read ({error.strerror})")


def predict_set(options: PageOptions, model: SelectedModel, photos: PhotoSet, most: int) -> PredictedSet:
    """The predictions for the first photos of a set, at most `most`.

    Raises:
        UserError: too many other predictions are running.
    """
    table = predict_photos(options, model, photos.photos[:most])
    count, failed = len(photos.photos), int(table["seconds"].isna().sum())
    size = f"the first {most:,} of {count:,} photos" if count > most else f"{count:,} photo{'s' * (count != 1)}"
    remarks = [f"Without a prediction (see the column note), and not in the downloads: {failed}."] * bool(failed)
    remarks += [f"Left out of the zip: {photos.remark}."] * bool(photos.remark)
    return PredictedSet(f"{photos.title}, {model.label}: {size}", table, " ".join(remarks))


def predict_photos(options: PageOptions, model: SelectedModel, photos: list[PhotoSource]) -> pd.DataFrame:
    """A row for each photo: name, mos, its place among the training photos, caption, score, seconds, note or error.

    Raises:
        UserError: too many other predictions are running.
    """
    rows: list[dict[str, object]] = []
    bar = st.progress(0.0, "predicting")
    for start in range(0, len(photos), BATCH):
        batch = photos[start : start + BATCH]
        data = [photo.read() for photo in batch]
        predictions = iter(model.predict(options, [item for item in data if isinstance(item, bytes)]))
        results = [next(predictions) if isinstance(item, bytes) else item for item in data]
        rows += [table_row(photo.name, result) for photo, result in zip(batch, results, strict=True)]
        bar.progress(len(rows) / len(photos), f"{len(rows)} of {len(photos)} photos")
    bar.empty()
    return pd.DataFrame(rows)


def table_row(name: str, prediction: Prediction | PredictionError) -> dict[str, object]:
    """A photo's row in the table."""
    if isinstance(prediction, PredictionError):
        values = dict.fromkeys(("mos", "above, %"), None) | {"caption": "", "score": None, "seconds": None}
        return {"photo": name, **values, "note": prediction.reason}
    best = prediction.captions[0] if prediction.captions else None
    return {
        "photo": name,
        "mos": prediction.mos,
        "above, %": None if prediction.place is None else 100 * prediction.place,
        "caption": best.text if best else "",
        "score": best.score if best else None,
        "seconds": prediction.seconds,
        "note": prediction.note,
    }


def printable(name: str) -> str:
    """A name with escapes for bytes that are not UTF-8, as file names from other systems may have."""
    return name.encode("utf-8", "backslashreplace").decode()


def show_set(predicted: PredictedSet) -> None:
    """Shows the table, which its columns sort, and its downloads."""
    st.text(predicted.title)
    if predicted.remark:
        st.warning(predicted.remark)
    shown = predicted.table.dropna(axis=1, how="all").loc[:, lambda table: (table != "").any()]
    st.dataframe(shown, column_config=COLUMNS, hide_index=True)
    predictions = predicted.table[predicted.table["seconds"].notna()]
    with st.container(horizontal=True):
        if len(predictions):
            about = "The columns of a submission: img_name, mos, comments."
            show_download("Download predictions (CSV)", submission_csv(predictions), "predictions.csv", about)
        if predictions["caption"].any():
            about = "A zip with a text file for each photo: its caption, under the photo's name."
            show_download("Download captions (.txt)", captions_zip(predictions), "captions.zip", about)


def show_download(label: str, data: bytes, name: str, about: str) -> None:
    """Shows a button for a file; the page is not run anew by it."""
    st.download_button(label, data, name, on_click="ignore", help=about)
