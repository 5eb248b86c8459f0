"""Passes of images through a model's networks, and the feature cache's stores of them.

Held by tests/inference/test_feature_passes.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.common.errors import UserError
from src.config.schema import Config, DataConfig, MosViewsConfig
from src.data.feature_store import CachedFeatures, FeatureKind, FeatureSpec, FeatureStore
from src.data.transforms import SHORTEST
from src.inference.feature_extractor import CacheRequest, CacheResult, fill_on_device


@dataclass(frozen=True)
class FeaturePass:
    """A pass of images of one size through one network.

    Attributes:
        network: its index: 0 for model.backbone, then those of model.mos.backbones.
        size: of the images, as in a FeatureSpec.
        kinds: features of the pass; levels of several passes of one view stand side by side.
        tiles: rows and columns of a grid of tiles; each image and each tile is a view.
        overlap: of tiles, as MosViewsConfig's.
        view: index of the scale of the images.
    """

    network: int
    size: int
    kinds: tuple[FeatureKind, ...]
    tiles: int = 1
    overlap: float = 0.0
    view: int = 0


def feature_passes(
    config: Config, mos: bool = True, captions: bool = True, views: MosViewsConfig | None = None
) -> list[FeaturePass]:
    """The passes that a model's mos head, captions or both need; model.backbone's statistics come first.

    Args:
        config: the model's.
        mos: whether mos is needed.
        captions: whether captions are.
        views: of mos; None: the whole images of training.

    Raises:
        UserError: scales of images at their own size.
    """
    data, model = config.data, config.model
    levels = mos_passes(config, views or MosViewsConfig()) if mos and model.mos.enabled else []
    if not (captions and model.decoder.enabled):
        return levels
    grid = FeaturePass(0, data.caption_size, ("grid",))
    shared = replace(grid, kinds=("levels",))
    if shared not in levels:
        return [*levels, grid]
    return [replace(each, kinds=("levels", "grid")) if each == shared else each for each in levels]


def mos_passes(config: Config, views: MosViewsConfig) -> list[FeaturePass]:
    """The passes of the mos head, scale by scale."""
    inputs = [(0, config.data.mos_size)]
    for network, extra in enumerate(config.model.mos.backbones, 1):
        inputs += [(network, size) for size in extra.sizes or [config.data.mos_size]]
    tiles = (views.tiles, views.overlap) if views.tiles > 1 else (1, 0.0)
    return [
        FeaturePass(network, scaled_size(size, scale), ("levels",), *tiles, view)
        for view, scale in enumerate(views.scales)
        for network, size in inputs
    ]


def scaled_size(size: int, scale: float) -> int:
    """A factor of an image size, at least 32.

    Raises:
        UserError: the images have their own size.
    """
    if scale == 1:
        return size
    if not size:
        raise UserError("views.scales: the mos head reads photos at their own size (data.mos_size 0); leave scales out")
    return max(SHORTEST, round(size * scale))


class FeatureCache:
    """The feature cache of some passes.

    Attributes:
        stores: of each kind, in the passes' order.
    """

    def __init__(self, data: DataConfig, networks: Sequence[Any], passes: Sequence[FeaturePass]) -> None:
        """The stores of passes through networks, which are backbones or behave like them."""
        self.networks = networks
        self.stores: dict[FeatureKind, list[FeatureStore]] = {}
        self.sources: list[tuple[int, FeatureKind, FeatureStore]] = []  # the network and the kind of each store
        for item in passes:
            for kind in item.kinds:
                stored = networks[item.network].stored_kind(kind)
                spec = FeatureSpec(stored, networks[item.network].fingerprint(stored), item.size, data.flip)
                store = FeatureStore(data.cache_dir, spec)
                self.stores.setdefault(kind, []).append(store)
                self.sources.append((item.network, kind, store))

    def fill(self, files: Mapping[FeatureKind, Mapping[str, Path]], progress: bool = True) -> CacheResult:
        """Computes the features that are missing for the files of each kind, by SHA-256, as `fill_on_device`."""
        total = CacheResult()
        for index, network in enumerate(self.networks):
            stores = [(kind, store) for source, kind, store in self.sources if source == index]
            requests = [CacheRequest(store, dict(files[kind])) for kind, store in stores]
            result = fill_on_device(network, requests, progress)
            total.photos += result.photos
            total.seconds += result.seconds
            total.failed |= result.failed
        return total

    def find(self, hashes: Sequence[str | None]) -> dict[FeatureKind, CachedFeatures]:
        """The features of photos, by kind."""
        return {kind: CachedFeatures.find(stores, hashes) for kind, stores in self.stores.items()}
