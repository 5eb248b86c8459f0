"""The tab of a folder: predictions for all its photos, as a table to sort and as CSV.
Held by tests/serving/test_page.py.
"""

from pathlib import Path

import pandas as pd
import streamlit as st

from src.data.image_io import SUFFIXES
from src.data.image_list import read_image_list
from src.data.sample import Sample
from src.inference.predictor import Prediction, PredictionError
from src.serving.page.model_selection import SelectedModel
from src.serving.page_server import PageOptions

MAX_FOLDERS = 200
BATCH = 8
NUMBER_FORMATS = {"mos": "%.2f", "above, %": "%.0f", "score": "%.2f", "seconds": "%.3f"}


def show_folder_tab(options: PageOptions, models: list[SelectedModel]) -> None:
    """Shows the choice of folder and model, the table and its download."""
    folders = image_folders(options.folders)
    if not folders:
        st.info("This page may not read any folder of photos; start it with --folder FOLDER.")
        return
    left, middle, right = st.columns([3, 2, 1])
    name = left.selectbox("Folder", list(folders))
    label = middle.selectbox("Model", [model.label for model in models])
    limit = right.number_input("Photos at most", 1, 10_000, 100)
    chosen = [model for model in models if model.label == label]
    if st.button("Predict", type="primary", disabled=not chosen) and name in folders:
        samples = read_image_list(Path(folders[name]))[: int(limit)]
        st.session_state["folder"] = (f"{name}, {label}", predict_folder(options, chosen[0], samples))
    if "folder" in st.session_state:
        show_table(*st.session_state["folder"])


@st.cache_data(ttl=60, show_spinner=False)
def image_folders(roots: tuple[str, ...]) -> dict[str, str]:
    """Label -> folder: the roots and the folders below them that hold photos, at most MAX_FOLDERS."""
    folders: dict[str, str] = {}
    for root in map(Path, roots):
        for folder in [root, *sorted(path for path in root.rglob("*") if path.is_dir())] if root.is_dir() else []:
            hidden = any(part.startswith(".") for part in folder.relative_to(root).parts)
            if not hidden and any(file.suffix.lower() in SUFFIXES for file in folder.iterdir()):
                folders[printable(str(folder))] = str(folder)
            if len(folders) == MAX_FOLDERS:
                return folders
    return folders


def predict_folder(options: PageOptions, model: SelectedModel, samples: list[Sample]) -> pd.DataFrame:
    """A row for each photo: name, mos, its place among the training photos, caption, score, seconds, note or error.

    Raises:
        UserError: too many other predictions are running.
    """
    rows: list[dict[str, object]] = []
    bar = st.progress(0.0, "predicting")
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        predictions = model.predict(options, [read_bytes(sample.path) for sample in batch])
        rows += map(table_row, batch, predictions)
        bar.progress(len(rows) / len(samples), f"{len(rows)} of {len(samples)} photos")
    bar.empty()
    return pd.DataFrame(rows)


def table_row(sample: Sample, prediction: Prediction | PredictionError) -> dict[str, object]:
    """A photo's row in the table."""
    name = printable(sample.name)
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


def read_bytes(path: Path) -> bytes:
    """A photo's bytes; empty where it cannot be read, which the prediction then reports."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def show_table(title: str, table: pd.DataFrame) -> None:
    """Shows the table, which its columns sort, and its download."""
    st.text(f"{title}: {len(table)} photos")
    columns = {name: st.column_config.NumberColumn(format=number) for name, number in NUMBER_FORMATS.items()}
    st.dataframe(table, column_config=columns, hide_index=True)
    st.download_button("Download as CSV", table.to_csv(index=False).encode(), "predictions.csv", "text/csv")
