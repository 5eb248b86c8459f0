from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.schema import Config, DataConfig, DecoderConfig, ModelConfig, MosConfig, SourceConfig, TokenizerConfig
from src.data.labels import labelled_split, train_tokenizer
from src.data.sample import Sample

RATED = Sample(Path("r.jpg"), "r", "s", 5.0)
CAPTIONED = Sample(Path("c.jpg"), "c", "s", None, ("a rare word",))
BARE = Sample(Path("b.jpg"), "b", "s")


@pytest.mark.parametrize(
    ("mos", "captions", "names"), [(True, True, ["r", "c"]), (True, False, ["r"]), (False, True, ["c"])]
)
def test_a_part_holds_photos_whose_label_a_head_learns(mos: bool, captions: bool, names: list[str]) -> None:
    model = ModelConfig(mos=MosConfig(enabled=mos), decoder=DecoderConfig(enabled=captions))
    samples = [RATED, CAPTIONED, BARE]
    parts = labelled_split(samples, {("s", sample.name): "train" for sample in samples}, Config(model=model))
    assert {part: [sample.name for sample in held] for part, held in parts.items()} == {
        "train": names,
        "val": [],
        "test": [],
    }


def test_a_caption_decoder_needs_a_word_and_a_mos_head_does_not() -> None:
    data = DataConfig(sources=[SourceConfig(name="s")], tokenizer=TokenizerConfig(min_count=2))
    with pytest.raises(UserError, match=r"data\.tokenizer\.min_count is 2: no word"):
        train_tokenizer([RATED, CAPTIONED], Config(data=data))
    assert train_tokenizer([RATED, CAPTIONED, CAPTIONED], Config(data=data)).words == 3
    assert train_tokenizer([RATED], Config(data=data)).words == 0
    rating = ModelConfig(decoder=DecoderConfig(enabled=False))
    assert train_tokenizer([RATED, CAPTIONED], Config(data=data, model=rating)).words == 0
