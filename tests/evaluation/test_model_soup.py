"""Soups through the command: the mean of weights, the greedy choice, and runs that do not fit together."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from src.common.errors import UserError
from src.config.schema import Config
from src.ensemble import main
from src.evaluation.model_soup import SoupScores
from src.inference.model_loading import load_model
from src.models.model_folder import load_model_folder, save_model
from tests.tiny import make_model, tiny_config
from tests.training.test_run import make_data


def config(**decoder: object) -> Config:
    config = tiny_config()
    config.data.val = 0.4
    vars(config.model.decoder).update(decoder)
    return config


@pytest.fixture
def runs(elsewhere: Path) -> Path:
    """Three models: one, the same moved by noise, and the same moved by the opposite noise and more."""
    make_data(elsewhere / "data")
    make_model(elsewhere / "a", config())
    for name, step in (("b", 0.1), ("c", -0.3)):
        loaded = load_model_folder(elsewhere / "a")
        torch.manual_seed(7)
        with torch.no_grad():
            for weight in [*loaded.model.mos.parameters(), *loaded.model.decoder.parameters()]:  # type: ignore[union-attr]
                weight += step * torch.randn_like(weight)
        save_model(elsewhere / name, loaded.model, loaded.tokenizer.to_json(), loaded.config, loaded.meta)
    return elsewhere


def test_a_soup_is_the_mean_of_the_runs_that_raise_the_score(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", "a", "b", "c", "--soup", "soup"]) == 0
    meta = json.loads(Path("soup/meta.json").read_text())["soup"]
    assert f"soup of {len(meta['members'])}: {', '.join(meta['members'])}" in capsys.readouterr().out
    weights = [load_file(runs / name / "model.safetensors") for name in meta["members"]]
    for name, value in load_file(runs / "soup/model.safetensors").items():
        expected = torch.stack([state[name].double() for state in weights]).mean(0)
        torch.testing.assert_close(value.double(), expected, atol=1e-6, rtol=1e-6)
    scores = SoupScores([load_model(name)[0] for name in ("a", "b", "c")], 32, None)
    assert meta["score"] == scores.score(tuple("abc".index(name) for name in meta["members"]), scores.rows)
    assert meta["score"] >= max(scores.score((i,), scores.rows) for i in range(3)) == meta["single"][0]


def test_a_member_joins_unless_the_score_falls(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wortsman et al. 2022, recipe 1, on given scores: 2 is best, 0 keeps the score, 1 lowers it."""
    given = {(0,): 0.5, (1,): 0.6, (2,): 0.7, (1, 2): 0.65, (0, 2): 0.7}
    scores = SoupScores([load_model(name)[0] for name in ("a", "b", "c")], 32, None)
    monkeypatch.setattr(scores, "score", lambda chosen, rows: given[tuple(sorted(chosen))])
    assert scores.greedy(scores.rows) == (2, 0)
    assert scores.best(scores.rows) == (2,)


def test_runs_that_do_not_fit_together_are_refused_in_one_line(runs: Path) -> None:
    make_model(runs / "wide", config(hidden=12))
    make_model(runs / "dropped", config(dropout=0.5))
    make_model(runs / "split", config(), data_hash="other")
    make_model(runs / "words", config(), styles=("poetry",))
    for name, message in (
        ("wide", "--models wide: model.decoder.hidden is 12, but 16 in a"),
        ("split", "--models split: has other data or another split than a"),
        ("words", "--models words: has another tokenizer than a"),
    ):
        with pytest.raises(UserError, match=message) as error:
            main(["--models", "a", name, "--soup", "soup"])
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="--soup data: is there already"):
        main(["--models", "a", "b", "--soup", "data"])
    assert main(["--models", "a", "dropped", "--soup", "soup"]) == 0  # dropout is of training alone
