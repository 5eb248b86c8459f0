"""The fingerprint of data: what it holds, wherever it lies.

Held by tests/training/test_datamodule.py and tests/tracking/test_run_folder.py.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from src.config.schema import DataConfig
from src.data.exclusions import read_exclusions
from src.data.sample import Sample
from src.data.sources import official_splits, read_sources
from src.data.split import split_images


def hash_data(samples: Sequence[Sample], split: Mapping[tuple[str, str], str], config: DataConfig) -> str:
    """SHA-256 over the images in their order: source, name, labels and part; and over what the config excludes."""
    digest = hashlib.sha256()
    for s in samples:
        digest.update(json.dumps([s.source, s.name, s.mos, s.captions, split.get((s.source, s.name))]).encode())
    if config.exclude:
        digest.update(json.dumps(read_exclusions(config, samples).listed()).encode())
    return digest.hexdigest()


def hash_config_data(config: DataConfig) -> str:
    """hash_data of a config's data.

    Raises:
        UserError: it cannot be read or split.
    """
    samples = read_sources(config)
    return hash_data(samples, split_images(samples, config, official_splits(config)), config)
