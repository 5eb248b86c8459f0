"""Scores by pretrained models, of tiny random ones made on the spot, against their formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.text.bert import bert_score as torchmetrics_bert
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

from src.common.errors import UserError
from src.data.image_io import load_image
from src.metrics.pretrained import bert_score, clip_score, glove_similarity, sentence_similarity
from tests.tiny import CAPTIONS, write_photo

SAID = [CAPTIONS[0], "a dark scene"]
WRITTEN = [[CAPTIONS[1], CAPTIONS[0]], [CAPTIONS[3]]]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers over the captions' words."""
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({w for c in CAPTIONS for w in c.split()})]
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)).save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=64).save_pretrained(folder)
    return folder


def layer(folder: Path, text: str) -> np.ndarray:
    """The last layer's vectors of a text's tokens [T, D], special ones included."""
    batch = BertTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        return BertModel.from_pretrained(folder).eval()(**batch).last_hidden_state[0].double().numpy()


def test_bert_score_is_greedy_matching_of_words(bert: Path) -> None:
    def f1(said: str, written: str) -> float:
        a, b = (layer(bert, text)[1:-1] for text in (said, written))  # without [CLS] and [SEP]
        alike = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
        precision, recall = alike.max(1).mean(), alike.max(0).mean()
        return 2 * precision * recall / (precision + recall)

    found = bert_score(SAID, WRITTEN, str(bert))
    assert found[0] == pytest.approx(1.0, abs=1e-4)  # one of its references is the same caption
    assert found[1] == pytest.approx(f1(SAID[1], WRITTEN[1][0]), abs=1e-4)
    theirs = torchmetrics_bert(SAID[1:], WRITTEN[1], model_name_or_path=str(bert), num_layers=2, max_length=64)
    assert found[1] == pytest.approx(float(theirs["f1"]), abs=1e-4)


def test_sentence_similarity_is_the_cosine_of_mean_vectors(bert: Path) -> None:
    def alike(one: str, other: str) -> float:
        a, b = layer(bert, one).mean(0), layer(bert, other).mean(0)
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    found = sentence_similarity(SAID, WRITTEN, str(bert))
    assert found[0] == pytest.approx((alike(SAID[0], WRITTEN[0][0]) + 1) / 2, abs=1e-5)
    assert found[1] == pytest.approx(alike(SAID[1], WRITTEN[1][0]), abs=1e-5)


def test_glove_similarity(tmp_path: Path) -> None:
    file = tmp_path / "glove.txt"
    file.write_text("dark 1 0\nscene 0 1\nbright 0 2\na 0 0\ncalm 0 0\nbad\n", encoding="utf-8")
    found = glove_similarity(["a dark scene", "unheard"], [["a bright scene", "dark"], ["scene"]], file)
    assert found == pytest.approx([(1 / 2**0.5 + 1 / 2**0.5) / 2, 0.0])
    with pytest.raises(UserError, match="none of the captions"):
        glove_similarity(["x"], [["y"]], file)
    file.write_text("dark 1 0\nscene 0 1\nscene name@domain.com 1 0\n")  # a word with spaces, as Common Crawl's have
    assert glove_similarity(["dark"], [["scene"]], file) == pytest.approx([0.0])
    file.write_text("dark 1 0\nscene 1\n")
    with pytest.raises(UserError, match="line 2 has 1 numbers, not 2"):
        glove_similarity(["dark"], [["scene"]], file)
    with pytest.raises(UserError, match="cannot be read"):
        glove_similarity(["dark"], [["scene"]], tmp_path / "none.txt")


def write_clip(folder: Path) -> None:
    """A tiny CLIP whose words are letters."""
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)]
    vocabulary = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}, merges=[], model_max_length=60)
    torch.manual_seed(0)
    both = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    end = len(vocabulary) - 1
    text = {"vocab_size": end + 1, "max_position_embeddings": 60, "eos_token_id": end, "bos_token_id": end - 1}
    vision = {"image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=text | both, vision_config=vision | both, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**sizes), tokenizer).save_pretrained(folder)


def test_clip_score_is_the_cosine_of_both_projections(tmp_path: Path) -> None:
    """Photo by photo, from CLIP's two towers (torchmetrics 1.9 does not run with transformers 5)."""
    write_clip(tmp_path / "clip")
    photos = [tmp_path / f"{i}.jpg" for i in range(3)]
    for i, path in enumerate(photos[:2]):
        write_photo(path, i)
    clip = CLIPModel.from_pretrained(tmp_path / "clip").eval()
    processor = CLIPProcessor.from_pretrained(tmp_path / "clip")
    found = clip_score(photos, [*SAID, "no photo"], str(tmp_path / "clip"))
    for i in range(2):
        batch = processor(text=SAID[i], images=load_image(photos[i]), return_tensors="pt")
        with torch.inference_mode():
            image = clip.visual_projection(clip.vision_model(batch["pixel_values"]).pooler_output)[0]
            text = clip.text_projection(clip.text_model(batch["input_ids"]).pooler_output)[0]
        cosine = float(image @ text / image.norm() / text.norm())
        assert found[i] == pytest.approx(2.5 * max(cosine, 0), abs=1e-5)
    assert np.isnan(found[2])
    assert found[:2].max() > 0


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--bert .*: no such folder"):
        bert_score(SAID, WRITTEN, str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="--clip .*: cannot be loaded") as error:
        clip_score([], [], str(tmp_path / "empty"))
    assert "\n" not in str(error.value)
