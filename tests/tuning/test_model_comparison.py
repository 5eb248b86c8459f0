"""Comparisons through the command: a table of everything, gone on with after a kill, failures told."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from src.common.errors import UserError
from src.compare import main
from src.tracking.run_registry import list_runs
from src.tuning.comparison_config import load_comparison
from src.tuning.variant_table import VariantRow, markdown_table
from tests.tiny import make_model, tiny_config
from tests.training.test_run import PHOTOS, experiment

ROOT = Path(__file__).parents[2]
VARIANTS = [
    {"name": "kept", "model": "kept/model"},
    {"name": "bad", "model": "nowhere"},
    {"name": "wide", "include": ["wide.yaml"], "overrides": {"model.decoder.hidden": 24}},
]


def comparison(folder: Path, variants: list[dict] = VARIANTS, **settings: object) -> Path:
    """A comparison's file on tiny data."""
    base = experiment(folder, epochs=2)
    (folder / "wide.yaml").write_text("model: {mos: {hidden: 12}, decoder: {hidden: 20}}\ntrain: {epochs: 7}\n")
    path = folder / "little.yaml"
    tree = {"include": [base.name], "track": {"name": "little"}, "photos": 3, "variants": variants}
    path.write_text(yaml.safe_dump({**tree, **settings}))
    return path


def kill_in_training(folder: Path) -> None:
    """Runs the comparison until the last variant has a checkpoint, then ends it as a power cut would."""
    command = [sys.executable, "-m", "src.compare", "little.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        first = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        last, end = folder / "runs/little-wide/checkpoints/last.ckpt", time.monotonic() + 400
        while not last.exists():
            over = first.poll() is not None or time.monotonic() > end
            assert not over, (folder / "log.txt").read_text()[-3000:]
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.wait()


@pytest.mark.slow
def test_a_killed_comparison_goes_on_and_tells_of_failures(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = comparison(elsewhere)
    make_model(elsewhere / "kept/model", tiny_config())
    kill_in_training(elsewhere)
    kept = elsewhere / "runs/compare-little/rows/kept.json"
    done, run_id = kept.stat().st_mtime_ns, (elsewhere / "runs/little-wide/run_id.txt").read_text()
    assert not (elsewhere / "runs/little-wide/result.json").exists(), "it was to be killed before it was done"

    assert main([str(file), "--output", "out/little.md"]) == 1
    printed = capsys.readouterr().out
    assert "kept:" not in printed
    assert kept.stat().st_mtime_ns == done
    assert (elsewhere / "runs/little-wide/run_id.txt").read_text() == run_id

    table = pd.read_csv(elsewhere / "out/little.csv").set_index("variant")
    assert table["state"].to_dict() == {"kept": "evaluated", "bad": "failed", "wide": "trained"}
    assert table["reason"]["bad"].startswith("nowhere: no model folder")
    assert f"- bad: {table['reason']['bad']}" in (elsewhere / "out/little.md").read_text()
    wide = table.loc["wide"]
    result = json.loads((elsewhere / "runs/little-wide/result.json").read_text())
    trained = PHOTOS - round(PHOTOS * 0.33)
    assert result["captions"] == trained * 2 * 2  # two captions a photo, two epochs: the budget is not the preset's
    assert wide["captions_per_second"] == pytest.approx(result["captions"] / result["seconds"])
    assert wide["train_minutes"] == pytest.approx(result["seconds"] / 60)
    weights = load_file(elsewhere / "runs/little-wide/model/model.safetensors")
    heads = sum(w.numel() for name, w in weights.items() if not name.startswith("backbone."))
    assert 0 < wide["parameters_trained"] <= heads < wide["parameters"]
    assert wide["memory_mb"] > 100
    assert table.loc[["kept", "wide"], "predict_ms"].gt(0).all()
    for name in ("plcc", "srcc", "bleu_4", "rouge_l", "cider_d", "rouge_1_mean"):
        assert wide[f"{name}_low"] <= wide[name] <= wide[f"{name}_high"]
    assert wide["cider_d"] == pytest.approx(result["scores"]["cider_d"]["value"])

    runs = {run.name: run for run in list_runs("multitask")}
    assert runs["little-wide"].tags["mlflow.parentRunId"] == runs["little"].id
    assert runs["little"].metrics["wide/cider_d"] == pytest.approx(wide["cider_d"])
    assert {run.status for run in runs.values()} == {"FINISHED"}

    file.write_text(file.read_text().replace("model.decoder.hidden: 24", "model.decoder.hidden: 28"))
    with pytest.raises(UserError, match=r"wide: .*another config \(model.decoder.hidden\); remove it"):
        main(["--config", str(file)])


@pytest.mark.parametrize("words", [[], ["a.yaml", "--config", "b.yaml"]])
def test_one_comparison_must_be_named(words: list[str]) -> None:
    with pytest.raises(UserError, match="name one comparison: "):
        main(words)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([{"name": "a", "overrides": {"model.decoder.hiden": 3}}], "variants: a: unknown key model.decoder.hiden"),
        ([{"name": "a", "overrides": {"model.decoder.hidden": "many"}}], "variants: a: .*model.decoder.hidden"),
        ([{"name": "a", "overrides": {"train.epochs": 3}}], "a: train.epochs is the same for all variants"),
        ([{"name": "a", "include": ["none.yaml"]}], "a: .*none.yaml: cannot be read"),
        ([{"name": "a", "include": ["bad.yaml"]}], "a: include: unknown key model.decode; did you mean model.decoder"),
        ([{"name": "a", "model": "x", "overrides": {"train.lr": 1}}], "a: train.lr: x is only evaluated"),
        ([{"name": "a", "preset": "x.yaml"}], "preset"),
        ([{"name": "a"}, {"name": "a"}], "name 'a': give each its own"),
        ([{"name": "../a"}], "give each its own"),
        ([], "variants: is empty"),
        ([{"name": "a", "modell": "b"}], r"variants\[0\].modell: there is no such key; did you mean model\?"),
        ([{"name": "a"}, {"model": "b"}], r"variants\[1\].name: is missing"),
    ],
)
def test_a_wrong_variant_is_refused_before_anything_starts(elsewhere: Path, variants: list[dict], message: str) -> None:
    file = comparison(elsewhere, variants)
    (elsewhere / "bad.yaml").write_text("model: {decode: {hidden: 3}}")
    with pytest.raises(UserError, match=f"little.yaml: .*{message}") as caught:
        main([str(file)])
    assert "\n" not in str(caught.value)
    assert not (elsewhere / "runs").exists()


@pytest.mark.parametrize("file", sorted((ROOT / "configs/compare").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_comparisons_that_come_along_are_right(file: Path) -> None:
    plan = load_comparison(file)
    assert list(plan.configs) == [variant.name for variant in plan.comparison.variants]
    assert {config.train.epochs for config in plan.configs.values()} == {plan.base.train.epochs}


def test_markdown_has_a_column_a_variant_and_leaves_out_what_none_has() -> None:
    one = VariantRow("one", "trained", "official", numbers={"parameters": 1234567.0, "predict_ms": 12.345})
    one.scores = {"cider_d": {"value": 0.50211, "low": 0.4671, "high": 0.5391}, "vocabulary_used": _count(431.0)}
    lines = markdown_table([one, VariantRow("two")]).splitlines()
    assert lines[0] == "|  | one | two |"
    assert "| parameters, all | 1,234,567 | - |" in lines
    assert "| prediction, ms a photo | 12.3 | - |" in lines
    assert "| cider_d | 0.502 [0.467, 0.539] | - |" in lines
    assert "| vocabulary_used | 431 | - |" in lines
    assert not any("GPU" in line or "Failed" in line for line in lines)


def _count(value: float) -> dict[str, float | None]:
    return {"value": value, "low": None, "high": None}
