"""The page that Streamlit runs: models and beam in the sidebar, tabs for photos, a folder and runs.
Held by tests/serving/test_page.py, as are all files of the page.
"""

import sys

import streamlit as st

from src.serving.page.folder_tab import show_folder_tab
from src.serving.page.model_selection import choose_models, show_errors
from src.serving.page.photo_tab import show_photo_tab
from src.serving.page.runs_tab import show_runs_tab
from src.serving.page_server import PageOptions


def show_page(options: PageOptions) -> None:
    """Shows the whole page."""
    st.set_page_config("Image quality and captions", layout="wide")
    st.title("Image quality and captions")
    with show_errors():
        models = choose_models(options)
        tabs = {"Photos": show_photo_tab, "Folder": show_folder_tab, "Runs": show_runs_tab}
        for tab, show in zip(st.tabs(list(tabs)), tabs.values(), strict=True):
            with tab, show_errors():
                show(options, models)


if __name__ == "__main__":
    show_page(PageOptions.from_json(sys.argv[1]))
