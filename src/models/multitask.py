"""The model: one backbone, a mos head and a caption decoder, either of which may be off.

Notation: B images in the batch, R rows of it that a task reads, K captions an image, T tokens a caption,
N places of the grid, C channels, L level statistics, V tokens in the vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.common.process_group import ProcessGroup
from src.config.schema import GenerationConfig, ModelConfig
from src.data.batch import Batch, TaskInput
from src.data.tokenizer import PAD, UNK
from src.models.backbones.base import Backbone, Pixels
from src.models.beam_search import GeneratedCaption
from src.models.decoders.base import make_decoder
from src.models.generation import generate
from src.models.losses.base import load_losses
from src.models.mos_heads.base import make_mos_head

Mean = tuple[Tensor, int]  # and the number of its terms


class CaptionLoss(Protocol):
    """A loss in the place of the cross-entropy.

    Attributes:
        weights: of its parts.
    """

    weights: Mapping[str, float]

    def __call__(self, grid: Tensor, batch: Batch) -> dict[str, Mean]:
        """The parts, from a grid [R, N, C] and the batch."""


@dataclass
class MultitaskOutputs:
    """The outputs for a batch.

    Attributes:
        mos: [R], of the images of the mos input, in the data's units; None without that head or input.
        grid: [R, N, C], of the images of the caption input; None likewise.
    """

    mos: Tensor | None = None
    grid: Tensor | None = None


class MultitaskModel(nn.Module):
    """Backbone and heads.

    Attributes:
        backbone: the shared image network.
        mos_backbones: the networks of model.mos.backbones, whose statistics the mos head reads too.
        mos: the mos head, or None.
        decoder: the caption decoder, or None.
        vocabulary: V, 0 without a decoder.
        log_variance: of each task, where their weights are learned.
    """

    def __init__(
        self,
        config: ModelConfig,
        backbone: Backbone,
        vocabulary: int = 0,
        styles: int = 1,
        mos_backbones: Sequence[nn.Module] = (),
    ) -> None:
        """Heads for a backbone.

        Args:
            config: which heads, and of what size.
            backbone: the image network.
            vocabulary: V; needed with a decoder.
            styles: how many style tokens follow the three special ones; they are never produced.
            mos_backbones: the networks of config.mos.backbones, in their order.

        Raises:
            UserError: both heads are off.
        """
        super().__init__()
        if not (config.mos.enabled or config.decoder.enabled):
            raise UserError("model: both heads are off; enable model.mos or model.decoder")
        self.config = config
        self.backbone = backbone
        self.mos_backbones = nn.ModuleList(mos_backbones)
        counts = [len(extra.sizes) or 1 for extra in config.mos.backbones]
        pairs = zip(counts, self.networks[1:], strict=True)
        level_size = sum((count * network.level_size for count, network in pairs), backbone.level_size)
        self.mos = make_mos_head(config.mos, level_size) if config.mos.enabled else None
        sizes = (vocabulary, backbone.grid_channels, backbone.config, styles)
        self.decoder = make_decoder(config.decoder, *sizes) if config.decoder.enabled else None
        self.vocabulary = vocabulary
        self.special = [PAD, UNK, *range(3, 3 + styles)]
        self.log_variance = nn.Parameter(torch.zeros(2)) if config.task_weights == "learned" else None

    @property
    def networks(self) -> list[Backbone]:
        """The backbone, then those of model.mos.backbones."""
        return [self.backbone, *self.mos_backbones]  # type: ignore[list-item]

    @property
    def learns_mos(self) -> bool:
        """Whether the losses train the mos head: there is such a head, and it is not fitted at once."""
        return self.mos is not None and self.mos.trained

    def fit_scale(self, levels: Tensor, mos: Tensor) -> None:
        """Sets the mos head's scales from the training images: levels [R, L], mos [R], NaN where unknown."""
        if self.mos is not None:
            self.mos.fit_scale(levels, mos)

    def forward(self, batch: Batch) -> MultitaskOutputs:
        """Predicted mos and the decoder's grid; the backbone runs once for pixels that both tasks share."""
        mos_input = batch.mos_input if self.mos is not None else None
        caption_input = batch.caption_input if self.decoder is not None else None
        if mos_input and caption_input and mos_input.pixels is not None and mos_input.pixels is caption_input.pixels:
            features = self.backbone(mos_input.pixels)
            levels, grid = features.levels, features.grid
        else:
            levels = task_features(mos_input, self.backbone.levels, self.backbone.finish_levels)
            grid = task_features(caption_input, self.backbone.grid, self.backbone.finish_grid)
        mos = self.mos(levels) if self.mos is not None and levels is not None else None
        return MultitaskOutputs(mos, grid)

    def losses(
        self, batch: Batch, caption_loss: CaptionLoss | None = None, group: ProcessGroup | None = None
    ) -> dict[str, Tensor]:
        """Each part (mos_NAME for each loss of the mos head, caption_ce), and their weighted total, `loss`.

        An image without mos and a caption that is all padding contribute nothing, and a part without labels is 0.

        Args:
            batch: images with their labels.
            caption_loss: in place of caption_ce.
            group: of processes that each hold a part of one batch; the losses are those of the whole batch, and their
                gradients, averaged over the processes, are its gradients. All of them call this method.
        """
        group = group or ProcessGroup()
        outputs = self(batch)
        with_mos, with_grid = group.sum(int(outputs.mos is not None and self.learns_mos), int(outputs.grid is not None))
        parts: dict[str, Tensor] = {}
        tasks: dict[str, Tensor] = {}
        if with_mos:
            parts |= self._mos_losses(*self._all_mos(outputs, batch, group))
            tasks["mos"] = weighted_loss(parts, {f"mos_{name}": w for name, w in self.config.mos.losses.items()})
        if with_grid:
            weights = caption_loss.weights if caption_loss else {"caption_ce": 1.0}
            means = self._caption_losses(outputs.grid, batch, caption_loss)
            caption = {name: group.mean(*mean) for name, mean in means.items()}
            parts, tasks["caption"] = parts | caption, weighted_loss(caption, weights)
        return parts | {"loss": self._total(tasks, batch)}

    def caption_ce(self, grid: Tensor, batch: Batch) -> dict[str, Mean]:
        """The cross-entropy of the batch's captions, from grid [R, N, C], and their words."""
        assert self.decoder is not None
        assert batch.caption_input is not None
        rows = batch.caption_input.rows
        tokens = batch.tokens[rows]
        words = int((tokens[:, :, 1:] != PAD).sum())
        scale = None if batch.weight is None else batch.weight[rows].unsqueeze(1).expand(tokens.shape[:2])
        return {"caption_ce": (self.decoder.loss(grid, tokens, self.config.decoder.label_smoothing, scale), words)}

    def generate(
        self, grid: Tensor, style: Tensor, generation: GenerationConfig, attention: bool = False, each: int = 1
    ) -> list[GeneratedCaption]:
        """A caption for each image, or `each` of them, from grid [R, N, C] and style tokens [R]."""
        assert self.decoder is not None
        return generate(self.decoder, grid, style, generation, self.special, attention, each)

    def _all_mos(
        self, outputs: MultitaskOutputs, batch: Batch, group: ProcessGroup
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """mos of the whole batch, predicted and true, and the weights, [R] each."""
        assert self.mos is not None
        here = outputs.mos is not None and batch.mos_input is not None  # else in another process's part only
        rows = batch.mos_input.rows if here and batch.mos_input else torch.arange(0)
        predicted = outputs.mos if here and outputs.mos is not None else zero_loss(self.mos)
        weight = None if batch.weight is None else group.all_gather(batch.weight[rows])
        return group.all_gather(predicted), group.all_gather(batch.mos[rows]), weight

    def _caption_losses(self, grid: Tensor | None, batch: Batch, caption_loss: CaptionLoss | None) -> dict[str, Mean]:
        assert self.decoder is not None
        if grid is None:  # in another process's part only
            names = caption_loss.weights if caption_loss else ("caption_ce",)
            return {name: (zero_loss(self.decoder).sum(), 0) for name in names}
        return caption_loss(grid, batch) if caption_loss else self.caption_ce(grid, batch)

    def _mos_losses(self, predicted: Tensor, mos: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
        """The losses with a weight, in standard deviations of the training mos."""
        assert self.mos is not None
        known = ~mos.isnan()
        p, t = self.mos.standard(predicted[known]), self.mos.standard(mos[known])
        weights = () if weight is None else (weight[known],)
        return {f"mos_{name}": loss(p, t, *weights) for name, loss in load_losses(self.config.mos.losses).items()}

    def _total(self, tasks: dict[str, Tensor], batch: Batch) -> Tensor:
        """The tasks' losses, weighted.

        Learned: exp(-s) loss + s / 2 a task with s its log variance (Kendall, Gal and Cipolla 2018, eq. 10, with
        the factor 1/2 of a regression left out of the first term for both).
        """
        total = batch.mos.new_zeros(())
        for place, name in enumerate(("mos", "caption")):
            if name not in tasks:
                continue
            if self.log_variance is None:
                total = total + getattr(self.config, f"{name}_weight") * tasks[name]
            else:
                s = self.log_variance[place]
                total = total + (-s).exp() * tasks[name] + s / 2
        return total


def task_features(
    task: TaskInput | None, extract: Callable[[Pixels], Tensor], finish: Callable[[Tensor], Tensor]
) -> Tensor | None:
    """A task's features: of the store after `finish`, or `extract` of pixels; None without images."""
    if task is None or not len(task.rows):
        return None
    if task.features is not None:
        return finish(task.features)
    return None if task.pixels is None else extract(task.pixels)


def weighted_loss(parts: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of losses; a loss of weight 0 is left out of the graph."""
    return torch.stack([weights[name] * part for name, part in parts.items() if weights[name]]).sum()


def zero_loss(head: nn.Module) -> Tensor:
    """[0], of the head's graph, so that backward() works where a process has no label for the head."""
    return next(weight for weight in head.parameters() if weight.requires_grad).flatten()[:0]
