"""The shared image network: pixels to the last stage's grid and every stage's statistics.

Each other file of this folder makes networks: the one that the prefix of model.backbone.name names (`blip/...`), else
timm.py. A file exports `make_network(config)` and `native_image_size(config)`, the side in pixels of the images that a
network was made for. The network has timm's interface: forward_features, forward_intermediates, feature_info,
pretrained_cfg, group_matcher, set_grad_checkpointing. It may also have `leading_tokens`, how many tokens of its output
precede the grid, and `complete_config`, a config that makes it without the files it was made from. A file may export
GRID_CLASS_TOKENS, how many places of its grids are no places of the image.

Notation: B images, N places of the grid, C channels, L level statistics.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import takewhile
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src.common.errors import UserError, is_out_of_memory, one_line
from src.common.plugins import load_plugin, plugin_names
from src.common.progress import print_once
from src.config.schema import BackboneConfig, Config, MosBackboneConfig
from src.data.feature_store import FeatureKind
from src.models.backbones._bundled_weights import bundled_package
from src.models.backbones._weights_file import is_weights_file
from src.models.layers.freezing import freeze_groups
from src.models.layers.frozen_trunk import Trunk, find_trunk, pack_trunk, passed_over, unpack_trunk
from src.models.layers.full_precision import train_in_full_precision
from src.models.layers.level_statistics import level_indices, matching_modules, output_statistics, spatial_statistics
from src.models.layers.lora import add_lora

Pixels = Tensor | list[Tensor]
NetworkRun = Callable[[Callable[[Tensor], Any]], Any]
"""Calls a function of pixels or activations with its input."""
PACKAGE, DEFAULT_PLUGIN = "src.models.backbones", "timm"
REFUSALS = (AssertionError, IndexError, RuntimeError, ValueError)  # what timm's networks raise at a size
WEIGHTS_REMEDY = "give model.backbone.weights a local file, bundled (tf_efficientnet_lite0 has such weights) or none"


@dataclass
class BackboneFeatures:
    """The heads' inputs.

    Attributes:
        grid: [B, N, C] of the last stage.
        levels: [B, L], mean and standard deviation over space of every stage.
    """

    grid: Tensor
    levels: Tensor


class Backbone(nn.Module):
    """A network behind one interface.

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
        self.config = config = getattr(self.network, "complete_config", config)
        pretrained = getattr(self.network, "pretrained_cfg", {})
        for name in ("mean", "std"):
            values = getattr(config, name) or pretrained[name]
            if len(values) != 3:
                raise UserError(f"model.backbone.{name} has {len(values)} values: one each for R, G and B are needed")
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.indices = level_indices(self.network)
        self.level_modules = matching_modules(self.network, config.levels)
        self.to(memory_format=torch.channels_last)
        self.side = 0  # of the images that it was made for, once it has taken one
        side = native_image_size(config)
        try:
            self._try_image(torch.zeros(1, 3, side, side))
        except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            why = one_line(error)[:200] or type(error).__name__
            raise UserError(f"model.backbone.name: {config.name} cannot be used as configured ({why})") from error
        self.side = side
        if config.checkpointing:
            _set_checkpointing(self.network, config.name)
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
        """[B, L], for images of any sizes, without layers after the last stage."""
        return _by_shape(lambda x: (self._both(x, stop=True)[1],), pixels)[0]

    def stored_kind(self, kind: FeatureKind) -> FeatureKind:
        """The features that a store holds for a head that reads a kind: the same, or trunk below trained layers."""
        return "trunk" if self.config.trainable else kind

    @cached_property
    def frozen_trunk(self) -> Trunk:
        """The modules below the trained layers.

        Raises:
            UserError: the network cannot be cut there.
        """
        training = self.training
        try:
            with torch.no_grad():
                trunk = self.eval()._find_trunk(torch.rand(2, 3, self.side, self.side).to(self.mean.device))
        finally:
            self.train(training)
        if trunk is None:
            why = f"the layers of {self.config.name} below the trained ones cannot be stored"
            raise UserError(f"data.cache: {why}; set it false, or choose another model.backbone.trainable")
        return trunk

    @torch.no_grad()
    def trunk(self, pixels: Tensor) -> Tensor:
        """[B, words] int16, the frozen trunk's output and its level statistics, of [B, 3, H, W] in 0..1."""
        return pack_trunk(*self._run_trunk(self.frozen_trunk, pixels))

    def finish_grid(self, features: Tensor) -> Tensor:
        """[B, N, C] from the rows of a store: the grid itself, or the trained layers' for the trunk's [B, words]."""
        if features.dtype != torch.int16:
            return features
        value, lower = unpack_trunk(features, self.frozen_trunk)
        with passed_over(self.network, self.frozen_trunk.modules):
            if self.prefix is None:
                return self._collect(partial(_call, value), False, self.frozen_trunk, lower)[0]
            return self._grid(self.network.forward_features(value), [])

    def finish_levels(self, features: Tensor) -> Tensor:
        """[B, L] from the rows of a store: the levels, or those of the trunk's [B, words] and the trained layers."""
        if features.dtype != torch.int16:
            return features
        value, lower = unpack_trunk(features, self.frozen_trunk)
        with passed_over(self.network, self.frozen_trunk.modules):
            return self._collect(partial(_call, value), True, self.frozen_trunk, lower)[1]

    def train(self, mode: bool = True) -> "Backbone":
        """Sets training mode, but where batch norm keeps its statistics: in frozen modules, or as configured in all."""
        super().train(mode)
        for module in self.network.modules():
            parameters = list(module.parameters())
            frozen = parameters and not any(p.requires_grad for p in parameters)
            if frozen or (self.config.fixed_norm and isinstance(module, _BatchNorm)):
                module.eval()
        return self

    def fingerprint(self, kind: str = "grid") -> str:
        """Identifies the features of a kind: name, options, normalisation, the weights' SHA-256, and which levels.

        Of a trunk, only its own weights count, since training changes the others.
        """
        digest = hashlib.sha256()
        parts = [f"{name}." for name in self.frozen_trunk.modules] if kind == "trunk" else [""]
        for name, value in sorted(self.network.state_dict().items()):
            if not name.startswith(tuple(parts)):
                continue
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        values = {
            "name": self.config.name,
            "options": self.config.options,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "weights": digest.hexdigest(),
        }
        if kind == "trunk":
            values["trunk"] = vars(self.frozen_trunk)
        elif kind == "levels" and self.config.levels:
            values["levels"] = self.config.levels
        return json.dumps(values, sort_keys=True)

    def _both(self, pixels: Tensor, stop: bool = False) -> tuple[Tensor, Tensor]:
        """Grid and levels; with `stop`, levels alone, and a grid that means nothing."""
        return self._collect(partial(self._run, pixels=pixels), stop)

    def _collect(
        self, run: NetworkRun, stop: bool, trunk: Trunk | None = None, lower: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `_both`, or above a trunk with the statistics `lower` [B, S] of the levels inside it."""
        inside = trunk.levels if trunk else []
        modules = {name: module for name, module in self.level_modules.items() if name not in inside}
        with output_statistics(modules) as statistics:
            outputs = self._intermediates(run, stop)
        last, stages = (outputs[-1], outputs) if stop else outputs
        pairs = statistics.values() if self.level_modules else map(spatial_statistics, stages[len(inside) :])
        levels = ([] if lower is None else [lower]) + [part for pair in pairs for part in pair]
        return (last if stop else self._grid(last, stages)), torch.cat(levels, dim=1)

    def _intermediates(self, run: NetworkRun, stop: bool) -> Any:
        options = {"indices": self.indices, "intermediates_only": stop, "stop_early": stop}
        return run(partial(self.network.forward_intermediates, **options))

    def _run_trunk(self, trunk: Trunk, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The trunk's output [B, C, H, W] and its statistics [B, S]."""
        value = self._normalise(pixels)
        with output_statistics({name: self.network.get_submodule(name) for name in trunk.levels}) as statistics:
            for name in trunk.modules:
                value = self.network.get_submodule(name)(value)
        levels = [part for pair in statistics.values() for part in pair]
        return value, torch.cat(levels, dim=1) if levels else value.new_zeros(len(value), 0)

    def _find_trunk(self, pixels: Tensor) -> Trunk | None:
        """The longest trunk that gives the same features as the whole network; None without such."""
        image, stages = self._normalise(pixels), []
        calls, chain = find_trunk(
            self.network, lambda: stages.extend(self._intermediates(partial(_call, image), stop=False)[1]), image
        )
        for count in range(len(chain), 0, -1):
            inside = [call for call in calls if call.is_inside(chain[:count])]
            outputs = [[call.name for call in inside if call.output is stage] for stage in stages]  # in place: the last
            patterned = [call.name for call in inside if call.name in self.level_modules]
            levels = patterned if self.level_modules else [names[-1] for names in takewhile(bool, outputs)]
            trunk = self._measure_trunk(Trunk(chain[:count], levels), pixels)
            if trunk is not None:
                return trunk
        return None

    def _measure_trunk(self, trunk: Trunk, pixels: Tensor) -> Trunk | None:
        """The trunk with its sizes; None where the network does not compute the same above it."""
        value, lower = self._run_trunk(trunk, pixels)
        if not isinstance(value, Tensor) or value.ndim != 4:
            return None
        expected = self(pixels)
        try:
            with passed_over(self.network, trunk.modules):
                grid, levels = self._collect(partial(_call, value), False, trunk, lower)
            torch.testing.assert_close(grid, expected.grid, atol=1e-3, rtol=1e-3)
            torch.testing.assert_close(levels, expected.levels, atol=1e-3, rtol=1e-3)
        except (*REFUSALS, AttributeError, TypeError):  # modules above it need more than the trunk's output
            return None
        return replace(trunk, channels=value.shape[1], statistics=lower.shape[1])

    def _normalise(self, pixels: Tensor) -> Tensor:
        return pixels.sub(self.mean).div_(self.std).contiguous(memory_format=torch.channels_last)

    def _run(self, network: Callable[[Tensor], Any], pixels: Tensor) -> Any:
        pixels = self._normalise(pixels)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            try:
                return network(pixels)
            except REFUSALS:
                self._require_size(network, pixels)
                raise

    def _require_size(self, network: Any, pixels: Tensor) -> None:
        """Raises UserError where the network does not take an image of that size."""
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

    def _leading_tokens(self, pixels: Tensor) -> int | None:
        """How many tokens precede the grid's places; None where the network's output has no places.

        timm's num_prefix_tokens does not count the class token of every network, so places are counted instead.
        """
        if hasattr(self.network, "leading_tokens"):
            return int(self.network.leading_tokens)
        with torch.no_grad():
            last, stages = self._intermediates(partial(self._run, pixels=pixels), stop=False)
        if isinstance(last, Tensor) and last.ndim == 4:
            return 0
        places = stages[-1].shape[2] * stages[-1].shape[3]
        return last.shape[1] - places if isinstance(last, Tensor) and last.shape[1] >= places else None

    def _try_image(self, image: Tensor) -> None:
        """Takes the features' sizes from an empty image [1, 3, H, W], and freezes parameters that are not trained."""
        self.eval()
        with torch.set_grad_enabled(self.config.trainable != 0):
            self.prefix = self._leading_tokens(image)
            with output_statistics(self.level_modules) as statistics:
                self._intermediates(partial(self._run, pixels=image), stop=True)
            # Layers after the last stage run for captions only.
            self.level_modules = {name: self.level_modules[name] for name in self.level_modules if name in statistics}
            features = self(image)
        self.grid_channels, self.level_size = features.grid.shape[-1], features.levels.shape[-1]
        if self.config.trainable:
            freeze_groups(self.network, features.grid.sum() + features.levels.sum(), self.config.trainable)
            train_in_full_precision(self.network)
        elif not self.config.lora.rank:
            self.network.requires_grad_(False)


def _call(value: Tensor, network: Callable[[Tensor], Any]) -> Any:
    return network(value)


def make_mos_backbones(main: nn.Module, configs: Sequence[MosBackboneConfig]) -> list[nn.Module]:
    """The networks of model.mos.backbones; one without a name is the main one.

    Raises:
        UserError: as Backbone; names the entry.
    """
    return [_make_mos_backbone(config, i) if config.name else main for i, config in enumerate(configs)]


def _make_mos_backbone(config: MosBackboneConfig, index: int) -> Backbone:
    try:
        return Backbone(_backbone_config(config))
    except UserError as error:
        raise UserError(str(error).replace("model.backbone", f"model.mos.backbones[{index}]")) from error


def _backbone_config(config: MosBackboneConfig) -> BackboneConfig:
    return BackboneConfig(**{key: value for key, value in asdict(config).items() if key != "sizes"})


def _by_shape(run: Callable[[Tensor], tuple[Tensor, ...]], pixels: Pixels) -> list[Tensor]:
    """Runs a function of stacked images on each group of equal shape; its outputs in the images' own order."""
    if isinstance(pixels, Tensor):
        return list(run(pixels))
    groups: dict[torch.Size, list[int]] = {}
    for row, image in enumerate(pixels):
        groups.setdefault(image.shape, []).append(row)
    parts = [run(torch.stack([pixels[row] for row in rows])) for rows in groups.values()]
    order = torch.tensor([row for rows in groups.values() for row in rows], device=pixels[0].device).argsort()
    return [torch.cat(output)[order] for output in zip(*parts, strict=True)]


def _set_checkpointing(network: Any, name: str) -> None:
    try:
        network.set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as error:
        raise UserError(f"model.backbone.checkpointing: {name} does not support it; set it false") from error


def backbone_plugin(name: str) -> ModuleType:
    """The file of this folder that makes the network of a name."""
    prefix, slash, _ = name.partition("/")
    plugin = prefix if slash and prefix in plugin_names(PACKAGE) else DEFAULT_PLUGIN
    return load_plugin(PACKAGE, plugin, "model.backbone.name")


def grid_class_tokens(name: str) -> int:
    """How many of the first places of the grids of a name's network are no places of the image."""
    return getattr(backbone_plugin(name), "GRID_CLASS_TOKENS", 0)


def make_network(config: BackboneConfig) -> nn.Module:
    """The network with weights from the hub (imagenet), from a package (bundled) or a file, or at random (none).

    Raises:
        UserError: unknown name or option, weights missing, of another network or not to be had.
    """
    if config.weights == "bundled":
        bundled_package(config.name)  # or one line says which networks have bundled weights
    try:
        return backbone_plugin(config.name).make_network(config)
    except UserError:
        raise
    except Exception as error:  # each of the libraries raises what it likes; a person gave the name, file and options
        raise UserError(_network_problem(config, error)) from error


def _network_problem(config: BackboneConfig, error: Exception) -> str:
    """One line on why a network could not be made."""
    reason = one_line(error)[:200] or type(error).__name__
    if is_weights_file(config.weights):
        return f"model.backbone.weights: {config.weights} does not fit {config.name} ({reason})"
    if config.weights == "imagenet" and not isinstance(error, TypeError):
        return f"model.backbone: no weights for {config.name} from the hub ({reason}); give a local file, or none"
    return f"model.backbone: {config.name} cannot be made with options {config.options} ({reason})"


def native_image_size(config: BackboneConfig) -> int:
    """Side in pixels of the images that a network was made for.

    Raises:
        UserError: unknown name; the files of its network are not to be had.
    """
    return backbone_plugin(config.name).native_image_size(config)


def resolve_backbone(config: Config) -> Config:
    """The config with the network that can be had, and image sizes of -1 replaced by the side that it was made for.

    Raises:
        UserError: unknown name, or images of no common size for captions.
    """
    backbone = available_backbone(config.model.backbone)
    networks = [_resolve_mos_sizes(mos_backbone, backbone) for mos_backbone in config.model.mos.backbones]
    mos = replace(config.model.mos, backbones=networks)
    return _resolve_image_sizes(replace(config, model=replace(config.model, backbone=backbone, mos=mos)))


def available_backbone(config: BackboneConfig) -> BackboneConfig:
    """The config, or that of its fallback with bundled weights where the hub does not answer, with a line on stderr."""
    find = getattr(backbone_plugin(config.name), "find_imagenet_weights", None)
    if not config.fallback or config.weights != "imagenet" or find is None:
        return config
    try:
        find(config.name)
    except UserError as error:
        print_once(f"{str(error).partition(';')[0]}; {config.fallback} with its bundled weights takes its place")
        return replace(config, name=config.fallback, weights="bundled", options={}, mean=[], std=[], fallback="")
    return config


def _resolve_mos_sizes(config: MosBackboneConfig, main: BackboneConfig) -> MosBackboneConfig:
    if min(config.sizes, default=0) >= 0:
        return config
    side = native_image_size(_backbone_config(config) if config.name else main)
    return replace(config, sizes=[side if size < 0 else size for size in config.sizes])


def _resolve_image_sizes(config: Config) -> Config:
    if not (data := config.data).caption_size:
        raise UserError("data.caption_size: is 0, but grids of one batch are of one size; give pixels, or -1")
    if min(data.caption_size, data.mos_size) >= 0:
        return config
    side = native_image_size(config.model.backbone)
    mos_size, caption_size = (side if size < 0 else size for size in (data.mos_size, data.caption_size))
    return replace(config, data=replace(data, mos_size=mos_size, caption_size=caption_size))
