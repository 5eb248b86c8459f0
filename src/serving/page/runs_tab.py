"""The tab of runs: all of MLflow's in a table, and some of them side by side."""

from datetime import datetime

import pandas as pd
import streamlit as st

from src.common.errors import UserError
from src.serving.page.model_selection import SelectedModel
from src.serving.page_server import PageOptions
from src.tracking.run_registry import RunRecord, list_runs, selected_score

SCORES = ("plcc", "srcc", "bleu_4", "meteor", "rouge_l", "cider_d", "combined")
MOST = 200


def show_runs_tab(options: PageOptions, models: list[SelectedModel]) -> None:
    """Table, choice, comparison."""
    try:
        runs = {f"{run.name} ({run.id[:6]})": run for run in newest_runs() if run.tags.get("kind") != "sweep"}
    except UserError as error:
        st.info(str(error))
        return
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
        more = [name for name in table.index if name != "rmse"] if len(chosen) > 1 else []  # of which more is better
        marked = table.style.highlight_max(axis=1, color="#cfe3f5", subset=(more, slice(None)))
        st.dataframe(marked.format("{:.4f}", na_rep="–"))
    with right:
        st.subheader("What they were trained with")
        settings = differing_settings(chosen)
        if settings.empty:
            st.write("The same settings." if len(chosen) > 1 else "Choose a second run to see how they differ.")
        else:
            st.dataframe(settings)


@st.cache_data(ttl=15, show_spinner="reading runs")
def newest_runs() -> list[RunRecord]:
    """The newest runs in MLflow."""
    return list_runs()[:MOST]


def run_row(run: RunRecord) -> dict[str, object]:
    """A run in the table."""
    started = datetime.fromtimestamp(run.start_time / 1000) if run.start_time else None
    known = {name: run.metrics.get(f"best/{name}") for name in SCORES}
    minutes = run.metrics.get("train_seconds")
    rest = {"selected": selected_score(run), **known, "minutes": minutes / 60 if minutes else None}
    return {"run": run.name, "status": run.status.lower(), "started": started, **rest}


def score_frame(runs: dict[str, RunRecord]) -> pd.DataFrame:
    """Scores of the weights that each run kept: a row a score, a column a run."""
    columns = {
        label: {name[5:]: value for name, value in run.metrics.items() if name.startswith("best/")}
        for label, run in runs.items()
    }
    return pd.DataFrame(columns, columns=list(columns)).astype(float)


def differing_settings(runs: dict[str, RunRecord]) -> pd.DataFrame:
    """Settings in which the runs differ: a row a setting, a column a run."""
    table = pd.DataFrame({label: run.params for label, run in runs.items()}).fillna("")
    return table[table.nunique(axis=1) > 1].sort_index()
