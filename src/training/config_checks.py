"""Contradictions in a training config, found before any work."""

from pathlib import Path

from src.common.errors import UserError
from src.common.java import find_java
from src.common.plugins import plugin_names
from src.config.plugin_keys import LOSSES, decoder_class, mos_head_class
from src.config.schema import Config
from src.data.formats.base import source_folder
from src.metrics.compute import selectable_scores
from src.metrics.meteor import NO_JAVA
from src.models.decoders.base import check_decoder_config
from src.tracking.run_folder import check_run_name
from src.tracking.run_registry import find_model


def check_config(config: Config) -> None:
    """Raises UserError where a config trains nothing, or has two settings that exclude each other."""
    if not config.data.sources:
        raise UserError("data.sources: no data set is named; start from a file: --config configs/demo.yaml")
    if not (config.model.mos.enabled or config.model.decoder.enabled):
        raise UserError("model: both heads are off; enable model.mos or model.decoder")
    check_run_name(config.track.name, "track.name")
    if config.train.epochs % config.train.eval_every:
        every = f"train.eval_every {config.train.eval_every}"
        raise UserError(f"{every}: must divide train.epochs {config.train.epochs}, or the last goes without a score")
    if config.train.self_critical.epochs > config.train.epochs:
        raise UserError("train.self_critical.epochs: more than train.epochs, of which they are the last ones; lower it")
    if config.train.workers > 1 and "auto" in (config.train.lr, config.train.batch_size):
        raise UserError("train.workers: one process finds train.lr and train.batch_size; set numbers, or workers 1")
    if config.folds or config.seeds > 1:
        raise UserError("folds and seeds are keys of src.train alone; remove them, or train the group by itself")
    if config.data.train_on_val and (config.train.patience or config.train.schedule == "plateau"):
        raise UserError("data.train_on_val: leaves no score for train.patience or schedule plateau; choose others")
    check_cache(config)
    if config.data.captions_weighting == "ngram" and not config.data.captions_per_photo:
        remedy = "set captions_per_photo 1"
        raise UserError(f"data.captions_weighting: data.captions_per_photo 0 takes all captions at each turn; {remedy}")
    check_selection_score(config)
    check_mos_backbones(config)
    check_mos_head(config)
    check_decoder(config)


def check_places(config: Config) -> None:
    """Raises UserError where a data source's folder or the model to start from does not exist; before any work."""
    for source in config.data.sources:
        if not Path(source.path).exists():
            source_folder(source)
    if config.train.start_from:
        find_model(config.train.start_from)


def check_cache(config: Config) -> None:
    """Raises UserError where the feature store cannot hold what training leaves as it is."""
    data, backbone = config.data, config.model.backbone
    if data.cache and not backbone.cacheable:
        remedy = "set it false, or model.backbone.trainable to 0 or more and .lora.rank 0"
        raise UserError(f"data.cache: all layers of the backbone are trained; {remedy}")
    if data.cache and not backbone.frozen and config.model.mos.backbones:
        remedy = "leave it out, or set model.backbone.trainable 0 or data.cache false"
        raise UserError(f"model.mos.backbones: the cache of a trained backbone holds its own features alone; {remedy}")
    if data.cache and not backbone.frozen and config.model.mos.enabled and not data.mos_size:
        remedy = "give the side of a square in pixels, or set data.cache false"
        raise UserError(
            f"data.mos_size: 0 is each photo's own size, which a trained backbone's cache cannot hold; {remedy}"
        )


def check_selection_score(config: Config) -> None:
    """Raises UserError where train.select is no score of an enabled head, or a score of which less is better."""
    known = ["auto", *selectable_scores(config.model.mos.enabled, config.model.decoder.enabled)]
    if config.train.select not in known:
        choices = ", ".join(known)
        raise UserError(f"train.select: {config.train.select} is no score of these heads that rises; choose {choices}")
    if config.train.select == "meteor" and find_java() is None:
        raise UserError(f"train.select: {NO_JAVA}")


def check_mos_backbones(config: Config) -> None:
    """Raises UserError where model.mos.backbones cannot be read, or an entry adds nothing."""
    backbones = config.model.mos.backbones
    if backbones and not (config.model.mos.enabled and config.data.cache):
        raise UserError(
            "model.mos.backbones: are read from the feature cache for mos; set data.cache true, or leave them out"
        )
    for i, entry in enumerate(backbones):
        if not (entry.name or entry.sizes):
            raise UserError(
                f"model.mos.backbones[{i}]: has neither a name nor sizes; give a timm model, or other sizes"
            )


def check_mos_head(config: Config) -> None:
    """Raises UserError where the mos head has no loss, or is fitted at once and has no feature store to read."""
    mos = config.model.mos
    trained = mos_head_class(mos.kind).trained
    if mos.enabled and not trained and not (config.data.cache and config.model.backbone.frozen):
        remedy = "set data.cache true and leave the backbone frozen, or choose mlp"
        raise UserError(f"model.mos.kind: {mos.kind} is fitted to the feature store; {remedy}")
    if mos.enabled and trained and not any(mos.losses.values()):
        remedy = "give one a weight above 0, or set model.mos.enabled false"
        raise UserError(f"model.mos: every loss ({', '.join(plugin_names(LOSSES))}) has weight 0; {remedy}")


def check_decoder(config: Config) -> None:
    """Raises UserError where the decoder's settings do not go together, or train.compile has nothing to compile."""
    decoder = config.model.decoder
    check_decoder_config(decoder)
    if decoder.enabled and decoder.doubly_stochastic and any(source.weight != 1 for source in config.data.sources):
        raise UserError(
            "model.decoder.doubly_stochastic: has no weights of sources; set it or data.sources.weight to default"
        )
    if config.train.compile and not (decoder.enabled and decoder_class(decoder.kind).compiled_parts):
        raise UserError(f"train.compile: model.decoder.kind {decoder.kind} has no blocks to compile; set it false")
