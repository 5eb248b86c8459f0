"""The notebook's cells, run one after the other as a hosted machine runs them."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.training.test_run import experiment

NOTEBOOK = Path(__file__).parents[2] / "docs/notebooks/challenge.ipynb"


def code_cells() -> list[str]:
    """The source of each code cell."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_leads_from_data_to_a_submission(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = experiment(elsewhere, epochs=1, checkpoint_steps=0, ema=0.0)
    tree = yaml.safe_load(path.read_text())
    tree["data"]["sources"][0]["path"] = "data/challenge"
    challenge, project = (elsewhere / "input" / name for name in ("challenge", "bundle/project"))
    project.mkdir(parents=True)
    (project / "tiny.yaml").write_text(yaml.safe_dump(tree))
    (elsewhere / "data").rename(challenge)
    (challenge / "test.csv").write_text("img_name,img_path\n0001,./train/0001.jpg\n0002,./train/0002.jpg\n")
    paths = {"BUNDLE": project.parent, "DATA": challenge, "WORK": elsewhere / "work", "CONFIG": "tiny.yaml"}
    for name, value in paths.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(sys, "path", list(sys.path))
    variables: dict[str, object] = {}
    for source in code_cells():
        exec(compile(source, str(NOTEBOOK), "exec"), variables)
    submission = pd.read_csv(elsewhere / "work/submissions/notebook.csv", dtype=str)
    assert submission["img_name"].tolist() == ["0001", "0002"]
    assert submission["mos"].astype(float).between(0, 10).all()


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(cell.get("outputs", []) == [] and cell.get("execution_count") is None for cell in cells)
