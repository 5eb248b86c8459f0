"""What feeding costs: the feature cache, photos to batches, and data set and sampler as tables grow."""

import resource
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import torch

from src.config.schema import BackboneConfig, TokenizerConfig
from src.data.dataset import ImageDataset, InputOptions
from src.data.feature_store import FeatureKind, FeatureSpec, FeatureStore
from src.data.sample import Sample
from src.data.sampler import ImageDraw, TrainBatchSampler
from src.data.source_mixture import SourceMixture
from src.data.tokenizer import Tokenizer
from src.inference.feature_extractor import CacheRequest, FeatureExtractor, fill_feature_stores
from src.models.backbones.base import Backbone

Row = tuple[str, str, str]
TURNS = (
    3  # each side is measured so often, in turn, and the best of each counts: other work on the machine comes and goes
)


def rows(photos: int = 128) -> list[Row]:
    """What was measured, the seconds or rates, and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        return [*cache_rows(Path(folder), photos), *batch_rows(Path(folder), photos), *growth()]


def cache_rows(folder: Path, photos: int) -> list[Row]:
    """Cache building, from files to files, against the same forward passes on pixels that are there already."""
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig(weights="none"))
    cases: list[tuple[FeatureKind, int, tuple[int, int]]] = [("grid", 224, (375, 500)), ("levels", 512, (512, 512))]
    return [_cache_row(folder, backbone, kind, size, shape, photos * 224**2 // size**2) for kind, size, shape in cases]


def batch_rows(folder: Path, photos: int) -> list[Row]:
    """A batch of 64 from JPEG files against bare cv2 that decodes and resizes the same files, one after the other."""
    files = write_photos(folder / "batch", photos, (375, 500))
    samples = [Sample(path, path.name, "x", 5.0, ("a photo",)) for path in files]
    tokenizer = Tokenizer.train(["a photo"], TokenizerConfig(min_count=1), ["x"])
    data = ImageDataset(samples, tokenizer, ["x"] * photos, InputOptions(training=True))
    batches = [[ImageDraw(i, 0) for i in range(start, min(start + 64, photos))] for start in range(0, photos, 64)]
    cv2.setNumThreads(0)

    def ours() -> None:
        for batch in batches:
            data.__getitems__(batch)

    def bare() -> None:
        for path in files:
            photo = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
            cv2.resize(photo, (224, 224), interpolation=cv2.INTER_AREA)

    return [_row("JPEG 500 x 375 to batch of 224 px / bare cv2", photos, *best(ours, bare))]


def growth(sizes: tuple[int, ...] = (1_000, 10_000, 100_000)) -> list[Row]:
    """Data set, sampler and an epoch of batches without photos: seconds and memory, and how they grew."""
    found = [_growth(size) for size in sizes]
    table: list[Row] = []
    for i, (size, now) in enumerate(zip(sizes, found, strict=True)):
        grown = [f"x{a / b:.1f}" for a, b in zip(now, found[i - 1], strict=True)] if i else []
        text = "{:.2f} s, table {:.1f} MB, beyond it {:.1f} MB".format(*now)
        table.append((f"epoch of {size:,} rows of 5 captions", text, ", ".join(grown)))
    return table


def _growth(size: int) -> tuple[float, float, float]:
    """Seconds of an epoch, megabytes that the data set holds, and most that an epoch needs beyond that."""
    samples = [
        Sample(Path(str(i)), str(i), "x", None, tuple(f"a photo of {i} and {k}" for k in range(5))) for i in range(size)
    ]
    captions = (text for sample in samples[:1000] for text in sample.captions)
    tokenizer = Tokenizer.train(captions, TokenizerConfig(min_count=1), ["x"])
    data = ImageDataset(samples, tokenizer, ["x"] * size, InputOptions(training=True, labelled=True, captions=False))
    arrays = [*vars(data).values(), *vars(data.captions).values()]
    held = sum(
        x.nbytes if isinstance(x, np.ndarray) else 8 * len(x) for x in arrays if isinstance(x, np.ndarray | list)
    )
    seconds = _seconds(lambda: _epoch(data))
    tracemalloc.start()
    _epoch(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, held / 1e6, peak / 1e6


def _epoch(data: ImageDataset) -> None:
    for batch in TrainBatchSampler(SourceMixture([0] * len(data), [0], 0), 64):
        data.__getitems__(batch)


def write_photos(folder: Path, photos: int, shape: tuple[int, int]) -> list[Path]:
    """JPEG files of smooth noise, about as hard to decode as photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    files = [folder / f"{i}.jpg" for i in range(photos)]
    for path in files:
        coarse = cv2.resize(rng.integers(0, 256, (24, 32, 3), np.uint8), shape[::-1], interpolation=cv2.INTER_CUBIC)
        grain = rng.normal(0, 6, (*shape, 3))
        cv2.imwrite(str(path), np.clip(coarse + grain, 0, 255).astype(np.uint8))
    return files


def best(ours: Callable[[], None], bare: Callable[[], None]) -> tuple[float, float]:
    """Seconds of each, the best of several turns taken alternately, after one that is not counted."""
    ours()
    bare()
    turns = [(_seconds(ours), _seconds(bare)) for _ in range(TURNS)]
    return min(a for a, _ in turns), min(b for _, b in turns)


def _cache_row(
    folder: Path, backbone: Backbone, kind: FeatureKind, size: int, shape: tuple[int, int], photos: int
) -> Row:
    files = write_photos(folder / kind, photos, shape)
    wanted = {sha256(path.read_bytes()).hexdigest(): path for path in files}
    run = FeatureExtractor(backbone, {kind}, size, flip=True)
    count = min(photos, run.pixels // size**2)
    pixels = torch.rand(2 * count, 3, size, size, device=run.device).contiguous(memory_format=torch.channels_last)
    turn = iter(range(100))

    def ours() -> None:
        recipe = FeatureSpec(kind, str(next(turn)), size, True)
        fill_feature_stores(backbone, [CacheRequest(FeatureStore(folder / "cache", recipe), wanted)], progress=False)

    def bare() -> None:
        with torch.inference_mode(), torch.autocast(run.device.type, torch.bfloat16, enabled=run.bf16):
            for start in range(0, photos, count):
                getattr(backbone, kind)(pixels[: 2 * min(count, photos - start)])
        if run.device.type == "cuda":
            torch.cuda.synchronize()

    what = f"cache of {kind}, {size} px, mirrored too / bare forward{' in bf16' if run.bf16 else ''}"
    return _row(what, photos, *best(ours, bare))


def _row(what: str, photos: int, ours: float, bare: float) -> Row:
    return what, f"{photos / ours:.0f} / {photos / bare:.0f} photos/s", f"{bare / ours:.2f} (0.8)"


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    for row in rows():
        print("  ".join(row))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
