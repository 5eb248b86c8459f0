"""Contradictions in a training config, found before any work."""

from typing import TYPE_CHECKING

from src.common.errors import UserError
from src.config.schema import Config, MosConfig

if TYPE_CHECKING:
    pass


def check_config(config: Config) -> None:
    """Raises UserError where a config asks for nothing, or for two things that exclude each other."""
    from src.models.decoders import registry as decoders
    from src.tracking.run_folder import check_run_name

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
    if config.data.cache and not config.model.backbone.frozen:
        remedy = "set it false, or model.backbone.trainable and .lora.rank 0"
        raise UserError(f"data.cache: a trained backbone's features change; {remedy}")
    check_selection_score(config)
    check_losses(config.model.mos)
    decoders.check_decoder_config(config.model.decoder)
    blocks = config.model.decoder.enabled and config.model.decoder.kind == "llama"
    if config.train.compile and not blocks:
        raise UserError("train.compile: only model.decoder.kind llama has blocks to compile; set it false")


def check_selection_score(config: Config) -> None:
    """Raises UserError where the best epoch is to be chosen by what is no score of the model, or is an error."""
    from src.common.java import find_java
    from src.metrics.compute import HIGHER_IS_BETTER
    from src.metrics.meteor import NO_JAVA

    heads = [name for name in HIGHER_IS_BETTER if getattr(config.model, name).enabled]
    known = ["auto", "combined", *(score for head in heads for score in HIGHER_IS_BETTER[head])]
    if config.train.select not in known:
        choices = ", ".join(known)
        raise UserError(f"train.select: {config.train.select} is no score of these heads that rises; choose {choices}")
    if config.train.select == "meteor" and find_java() is None:
        raise UserError(f"train.select: {NO_JAVA}")


def check_losses(mos: MosConfig) -> None:
    """Raises UserError where the mos head is to be trained by no loss."""
    if mos.enabled and not (mos.mse or mos.huber or mos.plcc or mos.rank):
        remedy = "give one a weight above 0, or set model.mos.enabled false"
        raise UserError(f"model.mos: every loss (mse, huber, plcc, rank) has weight 0; {remedy}")
