"""The page that Streamlit runs: models and beam at the side, a tab each for photos, a folder and runs."""

import sys

import streamlit as st

from src.serving.page.folder_tab import show_folder_tab
from src.serving.page.model_selection import choose_models, errors_on_page
from src.serving.page.photo_tab import show_photo_tab
from src.serving.page.runs_tab import show_runs_tab
from src.serving.page_server import PageOptions


def show_page(options: PageOptions) -> None:
    """The whole page."""
    st.set_page_config("Photo quality and captions", layout="wide")
    st.title("Photo quality and captions")
    with errors_on_page():
        chosen = choose_models(options)
        shows = (show_photo_tab, show_folder_tab, show_runs_tab)
        for tab, show in zip(st.tabs(["Photos", "Folder", "Runs"]), shows, strict=True):
            with tab, errors_on_page():
                show(options, chosen)


if __name__ == "__main__":
    show_page(PageOptions.from_json(sys.argv[1]))
