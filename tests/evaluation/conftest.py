"""A small model with data of two sources, for tests of the evaluation."""

from pathlib import Path

import pytest

from src.config.schema import SourceConfig
from tests.evaluation.truth import NAMES, write_truth
from tests.tiny import CAPTIONS, make_model, tiny_config, write_photo


@pytest.fixture
def model(elsewhere: Path) -> Path:
    """A model of two sources: one with mos and comments, one with captions alone."""
    write_truth(elsewhere / "rated" / "train.csv")
    lines = []
    for i, name in enumerate(NAMES):
        write_photo(elsewhere / "rated" / "train" / f"{name}.jpg", seed=i)
        write_photo(elsewhere / "unrated" / "Images" / f"{i}.jpg", seed=i + 20)
        lines += [f"{i}.jpg#{k}\t{CAPTIONS[(i + k) % 4]}" for k in range(2)]
    (elsewhere / "unrated" / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    sources = [
        SourceConfig(format="samsung", path="rated", name="rated"),
        SourceConfig(format="flickr8k", path="unrated", name="unrated"),
    ]
    config = tiny_config(sources=sources)
    config.data.val = 0.5
    return make_model(elsewhere / "run" / "model", config, styles=("rated", "unrated"))
