"""The page below its title: models and beam in the sidebar, tabs for photos, the camera, many photos and runs.
Held by tests/serving/test_page.py.
"""

import streamlit as st

from src.serving.page.camera_tab import show_camera_tab
from src.serving.page.folder_tab import show_folder_tab
from src.serving.page.model_list import mlflow_runs
from src.serving.page.model_selection import choose_models, show_errors
from src.serving.page.photo_tab import show_photo_tab
from src.serving.page.runs_tab import show_runs_tab
from src.serving.page_server import PageOptions

TABS = {
    "Photos": show_photo_tab,
    "Camera": show_camera_tab,
    "Folder or zip": show_folder_tab,
    "Runs": show_runs_tab,
}


def show_tabs(options: PageOptions) -> None:
    """Shows the choice of models and all tabs."""
    with show_errors():
        models = choose_models(options)
        for tab, show in zip(st.tabs(list(TABS)), TABS.values(), strict=True):
            with tab, show_errors():
                show(options, models)
    mlflow_runs().refresh()  # last, or it would slow down all the rest
