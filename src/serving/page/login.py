"""The page's login: a field for the token, before anything else is shown.
Held by tests/serving/test_page.py.
"""

import streamlit as st

from src.serving.access_token import token_matches

LOGGED_IN = "logged in"


def show_login(token: str) -> bool:
    """Shows the field. Returns whether the visitor gave the token in this session, or the page has none."""
    if not token or st.session_state.get(LOGGED_IN):
        return True
    with st.form("login", clear_on_submit=True):
        given = st.text_input("Token", type="password")
        pressed = st.form_submit_button("Log in")
    if pressed and token_matches(given.encode(), token):
        st.session_state[LOGGED_IN] = True
        st.rerun()
    if pressed:
        st.error("This is not the page's token.")
    return False
