"""A tiny BLIP with random weights, as `save_pretrained` writes it: model, tokenizer and preprocessor."""

from dataclasses import replace
from pathlib import Path

import torch

from src.config.schema import Config, DecoderConfig, LoraConfig
from tests.tiny import CAPTIONS, tiny_config

SPECIAL = ["[PAD]", "[CLS]", "[UNK]", "[MASK]", "[SEP]"]  # in no order of ours, as BLIP's own
SEP = SPECIAL.index("[SEP]")
SIDE, PATCH, WIDE, HIGH = 32, 8, 24, 16


def write_blip(folder: Path, seed: int = 0) -> Path:
    """Writes it to a folder; its captions end after a few words, and differ from photo to photo."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    pieces = [*sorted({word for caption in CAPTIONS for word in caption.split()}), "##s", "##ly", "!", ","]
    vocabulary = {token: i for i, token in enumerate(SPECIAL + pieces)}
    start = len(vocabulary)  # the token that starts a caption is no word of the tokenizer
    vision = {"hidden_size": WIDE, "num_attention_heads": 3, "image_size": SIDE, "patch_size": PATCH}
    text = {"hidden_size": HIGH, "num_attention_heads": 2, "vocab_size": len(vocabulary) + 2}
    text |= {"bos_token_id": start, "sep_token_id": SEP, "eos_token_id": SEP, "max_position_embeddings": 40}
    both = {"intermediate_size": 32, "num_hidden_layers": 2}
    torch.manual_seed(seed)
    model = BlipForConditionalGeneration(BlipConfig(vision_config=vision | both, text_config=text | both)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.4)
        bias = model.text_decoder.cls.predictions.bias
        bias[[*range(len(SPECIAL)), start, start + 1]] = -100.0  # a trained BLIP writes nothing but words
        bias[SEP] = 4.0
    model.save_pretrained(folder)
    photos = BlipImageProcessor(size={"height": SIDE, "width": SIDE}, image_mean=[0.4, 0.5, 0.6])
    BlipProcessor(photos, BertTokenizer(vocab=vocabulary)).save_pretrained(folder)
    return folder


def blip_config(folder: Path, rank: int = 2) -> Config:
    """A config of that BLIP, to fine-tune with LoRA."""
    config = tiny_config()
    backbone = replace(config.model.backbone, name=f"blip/{folder}", weights="imagenet")
    decoder = DecoderConfig(kind="blip", lora=LoraConfig(rank, targets=r".*\.(query|value)"))
    return replace(config, model=replace(config.model, backbone=backbone, decoder=decoder))
