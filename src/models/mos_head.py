"""The mos head: level statistics of a backbone to a mean opinion score, in the data's units.

Notation: R images, L level statistics.
"""

import torch
from torch import Tensor, nn

from src.config.schema import MosConfig

MIN_DEVIATION = 0.02  # compressed statistics that vary less come from channels that are constant but for rounding


class MosHead(nn.Module):
    """Standardised level statistics through a small perceptron.

    Attributes:
        mos_mean, mos_std: of the training images; the output is in their units.
    """

    center: Tensor
    scale: Tensor
    mos_mean: Tensor
    mos_std: Tensor

    def __init__(self, config: MosConfig, size: int) -> None:
        """A head for `size` level statistics."""
        super().__init__()
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("mos_mean", torch.tensor(0.0))
        self.register_buffer("mos_std", torch.tensor(1.0))
        last = nn.Linear(config.hidden or size, 1)
        nn.init.zeros_(last.weight)  # the first prediction is the training mean
        nn.init.zeros_(last.bias)
        hidden = [nn.Linear(size, config.hidden), nn.GELU(), nn.Dropout(config.dropout)] if config.hidden else []
        self.body = nn.Sequential(nn.Dropout(config.dropout), *hidden, last)

    @torch.no_grad()
    def fit_scale(self, levels: Tensor, mos: Tensor) -> None:
        """Takes centre and scale of inputs and output from the training images: levels [R, L], mos [R], NaN unknown."""
        levels, mos = signed_sqrt(levels.float()), mos[~mos.isnan()].float()
        self.center.copy_(levels.mean(dim=0))
        self.scale.copy_(levels.std(dim=0, correction=0).clamp(min=MIN_DEVIATION))
        if len(mos):
            self.mos_mean.copy_(mos.mean())
            self.mos_std.copy_(mos.std(correction=0).clamp(min=1e-3))

    def scaled(self, levels: Tensor) -> Tensor:
        """[R, L] to mos [R] in standard deviations of the training mos, about 0."""
        with torch.autocast(levels.device.type, enabled=False):  # so little work that fp32 costs nothing
            standard = (signed_sqrt(levels.float()) - self.center) / self.scale
            return self.body(standard.clamp(-6, 6)).squeeze(1)

    def forward(self, levels: Tensor) -> Tensor:
        """[R, L] to mos [R] in the data's units, fp32."""
        return self.scaled(levels) * self.mos_std + self.mos_mean

    def standard(self, mos: Tensor) -> Tensor:
        """mos in the data's units to standard deviations about the training mean, the unit of the losses."""
        return (mos - self.mos_mean) / self.mos_std


def signed_sqrt(levels: Tensor) -> Tensor:
    """Signed square root: statistics have long tails."""
    return levels.sign() * levels.abs().sqrt()
