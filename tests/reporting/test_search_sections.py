"""Reports on sweeps and comparisons."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from src.common.files import write_text
from src.compare import main as compare
from src.config.schema import to_dict
from src.evaluate import main as evaluate
from src.evaluation.score_table import format_score
from src.metrics.base import Score
from src.report import main
from src.tracking.mlflow_client import open_client
from src.tuning.comparison_config import ComparisonConfig, VariantConfig
from src.tuning.study import study_storage
from src.tuning.sweep_config import trial_name
from src.tuning.variant_table import VariantRow
from tests.reporting.report_reader import read_report
from tests.tiny import make_model, tiny_config
from tests.training.test_run import experiment


def test_a_sweeps_report_holds_its_search(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(models)
    folder = Path("runs/sweep-hunt")
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=study_storage(folder), study_name="hunt", direction="maximize", load_if_exists=True
    )
    study.set_user_attr("objective", ["selected"])
    study.optimize(lambda trial: -abs(trial.suggest_float("train.lr", 0, 1) - 0.5), n_trials=8)
    history = Path("runs") / trial_name("hunt", study.best_params) / "history.jsonl"
    history.parent.mkdir(parents=True)
    history.write_text('{"call": "metrics", "step": 0, "metrics": {"train/loss": 2.0, "val/plcc": 0.5}}\n')
    assert main(["--sweep", "hunt", "--log", "false"]) == 0
    text, page = read_report(Path("reports/sweep-hunt.html"))
    assert page.headings == ["Search", "Trials"]
    assert f"{study.best_value:.4g}" in text
    assert "holds the search alone" in capsys.readouterr().err


@pytest.mark.slow
def test_a_comparisons_report(elsewhere: Path) -> None:
    make_model(elsewhere / "kept/model")
    tree = yaml.safe_load(experiment(elsewhere).read_text()) | {"track": {"name": "duo"}}
    tree["train"] |= {"epochs": 1, "checkpoint_steps": 0}
    variants = [
        {"name": "mos", "overrides": {"model.decoder.enabled": False}},
        {"name": "kept", "model": "kept/model"},
    ]
    Path("duo.yaml").write_text(yaml.safe_dump(tree | {"variants": variants, "part": "val", "photos": 4}))
    assert compare(["--config", "duo.yaml"]) == 0
    assert main(["--comparison", "duo", "--meteor", "false"]) == 0
    _, page = read_report(Path("reports/compare-duo.html"))
    assert page.headings[:3] == ["Comparison", "Scores", "Training"]
    run_id = Path("runs/compare-duo/run_id.txt").read_text()
    kept = {Path(one.path).name for one in open_client().list_artifacts(run_id, "report")}
    assert {"compare-duo.html", "cost_predict_ms.png", "score_plcc.png", "losses.png"} <= kept


def test_a_comparisons_variants_have_its_settings(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    folder = Path("runs/compare-twice")
    base = tiny_config()
    base.data.val = 0.5  # the model's own is another
    given: list[dict[str, Any]] = [{"generate.method": "greedy", "generate.max_length": 2}, {"generate.beam": 3}]
    variants = [VariantConfig(f"v{i}", overrides=one, model="run/model") for i, one in enumerate(given)]
    tree = {"comparison": asdict(ComparisonConfig("val", 4, variants)), **to_dict(base)}
    write_text(folder / "config.yaml", yaml.safe_dump(tree))
    for one in variants:
        write_text(folder / f"rows/{one.name}.json", json.dumps({"row": asdict(VariantRow(one.name, "evaluated"))}))
    assert main(["--comparison", "twice", "--meteor", "false", "--log", "false"]) == 0
    text, _ = read_report(Path("reports/compare-twice.html"))
    Path("base.yaml").write_text(yaml.safe_dump(to_dict(base)))
    cells = []
    for overrides in given:
        words = [f"--{key}={value}" for key, value in overrides.items()]
        evaluate(["--model", "run/model", "--config", "base.yaml", "--meteor", "false", "--json", "v.json", *words])
        cells.append(format_score(Score(**json.loads(Path("v.json").read_text())["scores"]["all"]["bleu_1"])))
    assert cells[0] != cells[1]
    row = "".join(f"<td>{one}</td>" for one in ["bleu_1", *cells])
    assert row in text
    assert "<th>v0</th><th>v1</th>" in text
