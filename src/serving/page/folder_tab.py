"""The tab of a folder: every photo in it answered, in a table to sort and a CSV to keep."""

from pathlib import Path

import pandas as pd
import streamlit as st

from src.common.errors import UserError
from src.data.image_io import SUFFIXES
from src.data.image_list import read_image_list
from src.data.sample import Sample
from src.inference.predictor import Prediction
from src.serving.page.model_selection import PATIENCE, SelectedModel, prediction_gate
from src.serving.page_server import PageOptions

MOST_FOLDERS, CHUNK = 200, 8


def show_folder_tab(options: PageOptions, models: list[SelectedModel]) -> None:
    """Choice, table, download."""
    offered = image_folders(options.folders)
    if not offered:
        st.info("No folder of photos is open to this page; start it with --folder FOLDER.")
        return
    left, middle, right = st.columns([3, 2, 1])
    name = left.selectbox("Folder", list(offered))
    label = middle.selectbox("Model", [one.label for one in models])
    most = right.number_input("Photos at most", 1, 10_000, 100)
    chosen = [one for one in models if one.label == label]
    if st.button("Answer", type="primary", disabled=not chosen) and name in offered:
        samples = read_image_list(Path(offered[name]))[: int(most)]
        st.session_state["folder"] = (f"{name}, {label}", predict_folder(options, chosen[0], samples))
    if "folder" in st.session_state:
        show_table(*st.session_state["folder"])


@st.cache_data(ttl=60, show_spinner=False)
def image_folders(roots: tuple[str, ...]) -> dict[str, str]:
    """Label -> folder: those opened to the page and folders in them that hold photos, as far as MOST_FOLDERS."""
    found: dict[str, str] = {}
    for root in map(Path, roots):
        for place in [root, *sorted(path for path in root.rglob("*") if path.is_dir())] if root.is_dir() else []:
            hidden = any(part.startswith(".") for part in place.relative_to(root).parts)
            if not hidden and any(file.suffix.lower() in SUFFIXES for file in place.iterdir()):
                found[printable(str(place))] = str(place)
            if len(found) == MOST_FOLDERS:
                return found
    return found


def predict_folder(options: PageOptions, one: SelectedModel, samples: list[Sample]) -> pd.DataFrame:
    """A row a photo: name, mos, place, caption, score, seconds, and what was wrong with it.

    Raises:
        UserError: too many others are asking.
    """
    rows: list[dict[str, object]] = []
    bar = st.progress(0.0, "answering")
    for start in range(0, len(samples), CHUNK):
        if not (door := prediction_gate(options.at_once)).acquire(timeout=PATIENCE):
            raise UserError("many photos are being answered just now; try again in a moment")
        try:
            rows += predict_some(one, samples[start : start + CHUNK])
        finally:
            door.release()
        bar.progress(len(rows) / len(samples), f"{len(rows)} of {len(samples)} photos")
    bar.empty()
    return pd.DataFrame(rows)


def predict_some(one: SelectedModel, samples: list[Sample]) -> list[dict[str, object]]:
    """As answer_all, of a few photos."""
    rows: list[dict[str, object]] = []
    predictions = one.answerer.predict_bytes([read_bytes(s.path) for s in samples], one.ask)
    for sample, said in zip(samples, predictions, strict=True):
        row: dict[str, object] = {"photo": printable(sample.name), "mos": None, "above, %": None}
        row |= {"caption": "", "score": None}
        if isinstance(said, Prediction):
            best = said.captions[0] if said.captions else None
            row |= {"mos": said.mos, "above, %": None if said.place is None else 100 * said.place}
            row |= {"caption": best.text if best else "", "score": best.score if best else None}
            row |= {"seconds": said.seconds, "note": said.note}
        else:
            row |= {"seconds": None, "note": said.reason}
        rows.append(row)
    return rows


def printable(name: str) -> str:
    """A name in which bytes that are no UTF-8, as in files from other systems, are written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def read_bytes(path: Path) -> bytes:
    """A photo's bytes; none of one that cannot be read, which is then told of as an empty one."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def show_table(title: str, table: pd.DataFrame) -> None:
    """The table, whose columns sort it, and its download."""
    st.text(f"{title}: {len(table)} photos")
    shown = {name: st.column_config.NumberColumn(format=form) for name, form in FORMATS.items()}
    st.dataframe(table, column_config=shown, hide_index=True)
    st.download_button("Download as CSV", table.to_csv(index=False).encode(), "answers.csv", "text/csv")


FORMATS = {"mos": "%.2f", "above, %": "%.0f", "score": "%.2f", "seconds": "%.3f"}
