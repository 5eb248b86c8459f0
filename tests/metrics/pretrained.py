"""Captions, and the vectors of a tiny BERT, for scores by pretrained models."""

from pathlib import Path

import numpy as np
import torch
from transformers import BertModel, BertTokenizer

from tests.tiny import CAPTIONS

CANDIDATES = [CAPTIONS[0], "a dark scene"]
REFERENCES = [[CAPTIONS[1], CAPTIONS[0]], [CAPTIONS[3]]]


def layer(folder: Path, text: str) -> np.ndarray:
    """The last layer's vectors of a text's tokens [T, D], special ones included."""
    batch = BertTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        return BertModel.from_pretrained(folder).eval()(**batch).last_hidden_state[0].double().numpy()
