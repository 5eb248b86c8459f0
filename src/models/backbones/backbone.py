"""The shared image network: pixels to the last stage's grid and every stage's statistics.

Notation: B photos, N places of the grid, C channels, L level statistics.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from src.common.errors import UserError, is_out_of_memory, one_line
from src.config.schema import BackboneConfig
from src.models.backbones.network import MOST_LEVELS, make_network, native_image_size
from src.models.layers.lora import add_lora

Pixels = Tensor | list[Tensor]
REFUSALS = (AssertionError, IndexError, RuntimeError, ValueError)  # what timm's networks raise at a size
EPSILON = 1e-6  # added to a variance, so that a constant channel has a finite gradient


@dataclass
class BackboneFeatures:
    """What heads see of photos.

    Attributes:
        grid: [B, N, C] of the last stage.
        levels: [B, L], mean and standard deviation over space of every stage.
    """

    grid: Tensor
    levels: Tensor


class Backbone(nn.Module):
    """Any timm network, torchvision's googlenet, or a BLIP's vision tower, behind one interface.

    Attributes:
        grid_channels: C.
        level_size: L.
    """

    grid_channels: int
    level_size: int
    prefix: int | None
    mean: Tensor
    std: Tensor

    def __init__(self, config: BackboneConfig) -> None:
        """Builds the network and loads its weights.

        Raises:
            UserError: unknown name or option, weights missing, of another network or not to be had; trainable and LoRA.
        """
        super().__init__()
        if config.trainable and config.lora.rank:
            raise UserError("model.backbone: trainable and lora.rank exclude each other; set one of them to 0")
        with torch.random.fork_rng(devices=[]):  # random weights are always the same, so their features can be cached
            torch.manual_seed(0)
            self.network: Any = make_network(config)
            if config.lora.rank:
                add_lora(self.network, config.lora, "model.backbone.lora")
        self.config = config = getattr(self.network, "made_from", config)
        own = getattr(self.network, "pretrained_cfg", {})
        for name in ("mean", "std"):
            values = getattr(config, name) or own[name]
            if len(values) != 3:
                raise UserError(f"model.backbone.{name} has {len(values)} values: one each for R, G and B are needed")
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.indices = _indices(self.network)
        self.watched = _matching(self.network, config.levels)
        self.to(memory_format=torch.channels_last)
        self.side = 0  # of the photos that it was made for, once it is seen to take them
        side = native_image_size(config)
        try:
            self._try_out(torch.zeros(1, 3, side, side))
        except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            why = one_line(error)[:200] or type(error).__name__
            raise UserError(f"model.backbone.name: {config.name} cannot be used as it is asked for ({why})") from error
        self.side = side
        if config.checkpointing:
            _checkpoint(self.network, config.name)
        self.train()

    def forward(self, pixels: Pixels) -> BackboneFeatures:
        """Both kinds of features in one pass.

        Args:
            pixels: [B, 3, H, W] in 0..1, or B times [3, H, W]; grids are stacked, so lists must give equal ones.
        """
        return BackboneFeatures(*_by_shape(self._both, pixels))

    def grid(self, pixels: Pixels) -> Tensor:
        """[B, N, C], without the cost of the statistics."""
        if self.prefix is None:
            return _by_shape(self._both, pixels)[0]
        return _by_shape(lambda x: (self._grid(self._run(self.network.forward_features, x), []),), pixels)[0]

    def levels(self, pixels: Pixels) -> Tensor:
        """[B, L], for photos of any sizes, without layers after the last stage."""
        return _by_shape(lambda x: (self._both(x, stop=True)[1],), pixels)[0]

    def train(self, mode: bool = True) -> "Backbone":
        """Sets training mode, but where all parameters are frozen: batch norm keeps its statistics there."""
        super().train(mode)
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()
        return self

    def fingerprint(self, kind: str = "grid") -> str:
        """What decides the features of a kind: name, options, normalisation, the weights' SHA-256, and which levels."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        values = {
            "name": self.config.name,
            "options": self.config.options,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "weights": digest.hexdigest(),
        }
        if kind == "levels" and self.config.levels:
            values["levels"] = self.config.levels
        return json.dumps(values, sort_keys=True)

    def _both(self, pixels: Tensor, stop: bool = False) -> tuple[Tensor, Tensor]:
        """Grid and levels; with `stop`, levels alone, and a grid that means nothing."""
        with _watched(self.watched) as seen:
            found = self._intermediates(pixels, stop)
        last, stages = (pixels, found) if stop else found
        parts = [part for both in seen.values() for part in both]
        levels = torch.cat(parts, dim=1) if parts else self._levels(stages)
        return (last if stop else self._grid(last, stages)), levels

    def _intermediates(self, pixels: Tensor, stop: bool) -> Any:
        options = {"indices": self.indices, "intermediates_only": stop, "stop_early": stop}
        return self._run(partial(self.network.forward_intermediates, **options), pixels)

    def _run(self, network: Any, pixels: Tensor) -> Any:
        pixels = pixels.sub(self.mean).div_(self.std).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            try:
                return network(pixels)
            except REFUSALS:
                self._require_size(network, pixels)
                raise

    def _require_size(self, network: Any, pixels: Tensor) -> None:
        """Raises UserError where one photo of that size is what the network does not take."""
        height, width = pixels.shape[2:]
        if not (side := self.side) or height == width == side:
            return
        try:
            with torch.no_grad():
                network(torch.zeros_like(pixels[:1]))
        except REFUSALS as error:
            if is_out_of_memory(error):
                return
            why = f"{self.config.name} does not take photos of {width} x {height} pixels ({one_line(error)[:120]})"
            remedy = f"set data.caption_size and data.mos_size to {side}, or choose another backbone"
            raise UserError(f"model.backbone.name: {why}; {remedy}") from error

    def _grid(self, last: Any, stages: list[Tensor]) -> Tensor:
        if self.prefix is None:
            return stages[-1].flatten(2).transpose(1, 2).contiguous()
        if last.ndim == 3:
            return last[:, self.prefix :]
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return last.flatten(1, 2)
        return last.flatten(2).transpose(1, 2).contiguous()

    def _levels(self, stages: list[Tensor]) -> Tensor:
        return torch.cat([statistic for stage in stages for statistic in _statistics(stage)], dim=1)

    def _tokens_ahead(self, pixels: Tensor) -> int | None:
        """How many tokens precede the grid's places; None where the network's output has no places to give.

        timm's num_prefix_tokens does not count the class token of every network, so places are counted instead.
        """
        if hasattr(self.network, "tokens_ahead"):
            return int(self.network.tokens_ahead)
        with torch.no_grad():
            last, stages = self._intermediates(pixels, stop=False)
        if isinstance(last, Tensor) and last.ndim == 4:
            return 0
        places = stages[-1].shape[2] * stages[-1].shape[3]
        return last.shape[1] - places if isinstance(last, Tensor) and last.shape[1] >= places else None

    def _try_out(self, photo: Tensor) -> None:
        """Learns the features' sizes from an empty photo [1, 3, H, W], and freezes what is not to be trained."""
        self.eval()
        with torch.set_grad_enabled(self.config.trainable != 0):
            self.prefix = self._tokens_ahead(photo)
            with _watched(self.watched) as seen:
                self._intermediates(photo, stop=True)
            # Layers after the last stage run for captions only.
            self.watched = {name: module for name, module in self.watched.items() if name in seen}
            features = self(photo)
        self.grid_channels, self.level_size = features.grid.shape[-1], features.levels.shape[-1]
        if self.config.trainable:
            _freeze(self.network, features.grid.sum() + features.levels.sum(), self.config.trainable)
        elif not self.config.lora.rank:
            self.network.requires_grad_(False)


def _matching(network: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """The modules whose names match, in order; none for an empty pattern.

    Raises:
        UserError: no name matches, or the pattern is none.
    """
    if not pattern:
        return {}
    try:
        found = {name: module for name, module in network.named_modules() if re.search(pattern, name)}
    except re.error as error:
        raise UserError(f"model.backbone.levels: {pattern!r} is no regular expression: {error}") from error
    if not found:
        some = ", ".join(list(dict(network.named_modules()))[1:40:8])
        raise UserError(f"model.backbone.levels: no module matches {pattern!r}; names are such as {some}")
    return found


@contextmanager
def _watched(modules: dict[str, nn.Module]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Within the block, the statistics of each module's output appear under its name; outputs are not kept."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
            seen[name] = _statistics(output)

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _statistics(stage: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over space, each [B, C] fp32, of [B, C, H, W]."""
    # Two passes in fp32, since the mean of squares less the square of the mean loses all digits far from 0; over rows,
    # then over their means, since long sums lose digits too; sums as matrix products, since torch's own reductions over
    # space take twice as long where channels come last.
    with torch.autocast(stage.device.type, enabled=False):
        values = stage.permute(0, 2, 3, 1).float()
        mean = _mean_over_space(values)
        variance = _mean_over_space((values - mean[:, :, None]).square())
        return mean.squeeze(1), (variance.squeeze(1) + EPSILON).sqrt()


def _mean_over_space(values: Tensor) -> Tensor:
    """[B, H, W, C] to [B, 1, C]."""
    height, width = values.shape[1:3]
    rows = torch.matmul(values.new_full((1, width), 1 / width), values).squeeze(2)
    return torch.matmul(values.new_full((1, height), 1 / height), rows)


def _by_shape(run: Callable[[Tensor], tuple[Tensor, ...]], pixels: Pixels) -> list[Tensor]:
    """Runs a function of stacked photos on each group of equal shape; its outputs in the photos' own order."""
    if isinstance(pixels, Tensor):
        return list(run(pixels))
    groups: dict[torch.Size, list[int]] = {}
    for row, photo in enumerate(pixels):
        groups.setdefault(photo.shape, []).append(row)
    parts = [run(torch.stack([pixels[row] for row in rows])) for rows in groups.values()]
    order = torch.tensor([row for rows in groups.values() for row in rows], device=pixels[0].device).argsort()
    return [torch.cat(output)[order] for output in zip(*parts, strict=True)]


def _indices(network: Any) -> list[int] | None:
    """Which stages to look at: all, or where there are many alike, as in a ViT, evenly spaced ones up to the last."""
    count = len(network.feature_info)
    if count <= MOST_LEVELS:
        return None
    return [round((i + 1) * count / 4) - 1 for i in range(4)]


def _freeze(network: Any, output: Tensor, trainable: int) -> None:
    """Leaves gradients to the last `trainable` layer groups, as timm orders them (-1: to all), of those in use.

    A network's layers after its features, of a head that is not there, would never get a gradient.
    """
    from timm.models._manipulate import group_with_matcher

    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(output, parameters, allow_unused=True)
    used = {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
    groups = group_with_matcher(network.named_parameters(), network.group_matcher(coarse=True), reverse=True)
    order = sorted({groups[name] for name in used})
    kept = set(order if trainable < 0 else order[-trainable:])
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in used and groups[name] in kept)


def _checkpoint(network: Any, name: str) -> None:
    try:
        network.set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as error:
        raise UserError(f"model.backbone.checkpointing: {name} does not support it; set it false") from error
