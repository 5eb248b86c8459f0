"""The page that Streamlit runs: its title at once, and the rest when the packages of the models are imported.
Held by tests/serving/test_page.py, as are all files of the page.
"""

import sys

import streamlit as st

from src.serving.access_token import read_token
from src.serving.page.login import show_login
from src.serving.page_server import PageOptions


def show_page(options: PageOptions) -> None:
    """Shows the whole page."""
    st.set_page_config("Image quality and captions", layout="wide")
    st.title("Image quality and captions")
    if not show_login(read_token()):
        return
    with st.spinner("The page starts: this takes a few seconds the first time."):
        from src.serving.page.tabs import show_tabs  # torch takes seconds to import
    show_tabs(options)


if __name__ == "__main__":
    show_page(PageOptions.from_json(sys.argv[1]))
