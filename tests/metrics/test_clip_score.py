"""CLIPScore of a tiny random CLIP against its two towers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from src.common.errors import UserError
from src.data.image_io import load_image
from src.metrics.clip_score import clip_score
from tests.metrics.pretrained import CANDIDATES
from tests.tiny import write_photo


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
    found = clip_score(photos, [*CANDIDATES, "no photo"], str(tmp_path / "clip"))
    for i in range(2):
        batch = processor(text=CANDIDATES[i], images=load_image(photos[i]), return_tensors="pt")
        with torch.inference_mode():
            image = clip.visual_projection(clip.vision_model(batch["pixel_values"]).pooler_output)[0]
            text = clip.text_projection(clip.text_model(batch["input_ids"]).pooler_output)[0]
        cosine = float(image @ text / image.norm() / text.norm())
        assert found[i] == pytest.approx(2.5 * max(cosine, 0), abs=1e-5)
    assert np.isnan(found[2])
    assert found[:2].max() > 0


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--clip .*: cannot be loaded") as error:
        clip_score([], [], str(tmp_path))
    assert "\n" not in str(error.value)
