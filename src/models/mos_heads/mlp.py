"""A small perceptron, trained by the losses. Held by tests/models/mos_heads/test_mlp.py."""

from torch import Tensor, nn

from src.config.schema import MosConfig
from src.models.mos_heads.base import MosHead


class MLPHead(MosHead):
    """One hidden layer of model.mos.hidden units, or none, with dropout."""

    def __init__(self, config: MosConfig, size: int) -> None:
        super().__init__(config, size)
        last = nn.Linear(config.hidden or size, 1)
        nn.init.zeros_(last.weight)  # the first prediction is the training mean
        nn.init.zeros_(last.bias)
        hidden = [nn.Linear(size, config.hidden), nn.GELU(), nn.Dropout(config.dropout)] if config.hidden else []
        self.body = nn.Sequential(nn.Dropout(config.dropout), *hidden, last)

    def scaled(self, inputs: Tensor) -> Tensor:
        """As MosHead's."""
        return self.body(inputs).squeeze(1)


HEAD = MLPHead
