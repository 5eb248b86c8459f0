"""The tab of runs: all runs in MLflow as a table, and some of them side by side.
Held by tests/serving/test_page.py.
"""

from datetime import datetime

import pandas as pd
import streamlit as st

from src.metrics.compute import headline_scores, higher_is_better
from src.serving.page.model_list import is_sweep, mlflow_runs
from src.serving.page.model_selection import SelectedModel
from src.serving.page_server import PageOptions
from src.tracking.run_registry import RunRecord, selected_score

MAX_RUNS = 200


def show_runs_tab(options: PageOptions, models: list[SelectedModel]) -> None:
    """Shows the table of runs and the comparison of chosen runs."""
    mlflow = mlflow_runs()
    if not mlflow.runs:
        st.info("Reading the runs in MLflow …" if mlflow.loading else mlflow.problem or "No runs yet.")
        return
    runs = {f"{run.name} ({run.id[:6]})": run for run in mlflow.runs[:MAX_RUNS] if not is_sweep(run)}
    st.dataframe(pd.DataFrame([run_row(run) for run in runs.values()]), hide_index=True)
    finished = [label for label, run in runs.items() if run.status == "FINISHED"]
    labels = st.multiselect("Compare", list(runs), default=finished[:2], key="compare")
    chosen = {label: runs[label] for label in labels if label in runs}
    if not chosen:
        return
    left, right = st.columns(2)
    with left:
        st.subheader("Scores")
        table = score_frame(chosen)
        higher_scores = [name for name in table.index if higher_is_better(name)] if len(chosen) > 1 else []
        style = table.style.highlight_max(axis=1, color="#cfe3f5", subset=(higher_scores, slice(None)))
        st.dataframe(style.format("{:.4f}", na_rep="–"))
    with right:
        st.subheader("Settings of training")
        settings = differing_settings(chosen)
        if settings.empty:
            st.write("All settings are equal." if len(chosen) > 1 else "Choose a second run to see the differences.")
        else:
            st.dataframe(settings)


def run_row(run: RunRecord) -> dict[str, object]:
    """A run's row in the table."""
    started = datetime.fromtimestamp(run.start_time / 1000) if run.start_time else None
    scores = {name: run.metrics.get(f"best/{name}") for name in headline_scores()}
    minutes = run.metrics.get("train_seconds")
    values = {"selected": selected_score(run), **scores, "minutes": minutes / 60 if minutes else None}
    return {"run": run.name, "status": run.tags.get("status", run.status.lower()), "started": started, **values}


def score_frame(runs: dict[str, RunRecord]) -> pd.DataFrame:
    """Scores of each run's saved weights: a row for each score, a column for each run."""
    columns = {
        label: {name[5:]: value for name, value in run.metrics.items() if name.startswith("best/")}
        for label, run in runs.items()
    }
    return pd.DataFrame(columns, columns=list(columns)).astype(float)


def differing_settings(runs: dict[str, RunRecord]) -> pd.DataFrame:
    """Settings with different values: a row for each setting, a column for each run."""
    table = pd.DataFrame({label: run.params for label, run in runs.items()}).fillna("")
    return table[table.nunique(axis=1) > 1].sort_index()
