"""The page that Streamlit runs: models and beam at the side, a tab each for photos, a folder and runs."""

import sys

import streamlit as st

from src.serving.page import folder_tab as folder
from src.serving.page import photo_tab as photos
from src.serving.page import runs_tab as runs
from src.serving.page.model_selection import choose_models, errors_on_page
from src.serving.page_server import PageOptions


def show_page(options: PageOptions) -> None:
    """The whole page."""
    st.set_page_config("Photo quality and captions", layout="wide")
    st.title("Photo quality and captions")
    with errors_on_page():
        chosen = choose_models(options)
        for tab, page in zip(st.tabs(["Photos", "Folder", "Runs"]), (photos, folder, runs), strict=True):
            with tab, errors_on_page():
                page.show(options, chosen)


if __name__ == "__main__":
    show_page(PageOptions.from_json(sys.argv[1]))
