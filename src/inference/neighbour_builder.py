"""The training captions beside a model: at the end of its training, or by a command for a trained model."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote

import yaml
from jsonargparse import Namespace

from src.common.errors import UserError
from src.common.files import write_text
from src.config.schema import Config
from src.data.image_hashes import hash_images
from src.data.labels import load_training_samples
from src.data.sample import Sample
from src.data.sources import pseudo_sources
from src.inference.caption_style import source_style
from src.inference.image_embedding import embed_images
from src.inference.model_loading import load_model
from src.inference.neighbours import CaptionedImage, CaptionNeighbours
from src.inference.predict_options import PredictOptions, with_rerank
from src.inference.predictor import Predictor


def add_neighbours(options: Namespace) -> str:
    """Writes the training captions beside the model of a command line. Returns a message.

    Raises:
        UserError: the model writes no captions, or its training images cannot be read.
    """
    loaded, folder = load_model(options.model)
    if not loaded.config.model.decoder.enabled:
        raise UserError(f"--model {options.model}: writes no captions; name a model that does")
    neighbours = collect_neighbours(Predictor.of_model(loaded), load_training_samples(loaded.config))
    neighbours.save(folder)
    if options.enable:
        enable_rerank(folder, loaded.config)
    captions = sum(len(image.captions) for image in neighbours.images)
    command = f"python -m src.evaluate --model {quote(options.model)}"
    command += "" if options.enable else " --generate.rerank.enabled true"
    return f"wrote {captions:,} captions of {len(neighbours.images):,} training photos into {folder}\nnext: {command}"


def collect_neighbours(predictor: Predictor, samples: Sequence[Sample]) -> CaptionNeighbours:
    """The captioned images among training images, from the feature cache where training used it.

    Raises:
        UserError: no captioned image can be read.
    """
    config = predictor.description.config
    pseudo = pseudo_sources(config.data.sources)
    captioned = [sample for sample in samples if sample.captions and sample.source not in pseudo]
    cache = config.data.cache and config.model.backbone.cacheable
    rows, vectors = embed_images(predictor, captioned, PredictOptions(config.generate, cache=cache))
    if not len(rows):
        raise UserError("generate.rerank: no training photo with captions can be read; check the sources' paths")
    chosen = [captioned[row] for row in rows]
    hashes = hash_images([sample.path for sample in chosen], Path(config.data.split_dir))
    images = [
        CaptionedImage(digest or "", source_style(config, sample.source), list(sample.captions))
        for sample, digest in zip(chosen, hashes, strict=True)
    ]
    return CaptionNeighbours(vectors, images)


def enable_rerank(folder: Path, config: Config) -> None:
    """Makes the choice among candidates a model folder's own setting, for the page and the API too."""
    enabled = replace(config, generate=with_rerank(config.generate, True))
    write_text(folder / "config.yaml", yaml.safe_dump(asdict(enabled), sort_keys=False, allow_unicode=True))
