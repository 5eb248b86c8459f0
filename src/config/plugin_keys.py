"""Config keys that plug-ins bring: the options of a decoder's kind and the weights of mos losses.

Both have a short form: model.decoder.KIND stands for model.decoder.options where model.decoder.kind is KIND, and
model.mos.LOSS for model.mos.losses.LOSS. A plug-in's file, and torch with it, is imported when a config is checked.
Held by tests/models/test_plugins.py.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from src.common.plugins import check_plugin, load_plugin, plugin_names
from src.config.schema import AtLeast0, DecoderConfig, MosConfig

DECODERS, LOSSES = "src.models.decoders", "src.models.losses"
OPEN_KEYS = ("model.backbone.options.", "model.decoder.options.", "model.mos.losses.")  # any key may follow


def decoder_class(kind: str) -> type[Any]:
    """The decoder of a kind, a subclass of src.models.decoders.base.CaptionDecoder.

    Raises:
        UserError: there is no such kind.
    """
    return load_plugin(DECODERS, kind, "model.decoder.kind").DECODER


def short_keys() -> dict[str, Any]:
    """The short forms with their types: model.decoder.KIND, a mapping, and model.mos.LOSS, a weight."""
    kinds, losses = {f"model.decoder.{kind}": dict for kind in _kinds()}, _losses()
    return {**kinds, **{f"model.mos.{name}": AtLeast0 for name in losses}}


def option_keys(key: str) -> list[str]:
    """The keys model.decoder.KIND.OPTION of the kind that a dotted key names; none where it names no kind."""
    group, _, option = key.removeprefix("model.decoder.").partition(".")
    if not (key.startswith("model.decoder.") and option and group in _kinds()):
        return []
    return [f"model.decoder.{group}.{field.name}" for field in fields(decoder_class(group).options_type)]


def resolve_losses(losses: Mapping[str, float], short: Mapping[str, float]) -> dict[str, float]:
    """The weights of model.mos.losses and of its short forms over the default ones.

    Raises:
        UserError: there is no such loss.
    """
    default = MosConfig().losses
    weights = default | dict(sorted({**losses, **short}.items()))
    for name in weights:
        check_plugin(LOSSES, name, "model.mos.losses")
    return weights


def config_value(tree: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key, also in its short form, in a config as nested dicts; None where it has none."""
    decoder, losses = tree["model"]["decoder"], tree["model"]["mos"]["losses"]
    if key.startswith(prefix := f"model.decoder.{decoder['kind']}."):
        return decoder["options"].get(key.removeprefix(prefix))
    if key in (f"model.mos.{name}" for name in _losses()):
        return losses.get(key.removeprefix("model.mos."), 0.0)
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _kinds() -> list[str]:
    """Kinds of decoder whose names are no keys of model.decoder themselves."""
    return [kind for kind in plugin_names(DECODERS) if kind not in (field.name for field in fields(DecoderConfig))]


def _losses() -> list[str]:
    """Losses whose names are no keys of model.mos themselves."""
    return [name for name in plugin_names(LOSSES) if name not in (field.name for field in fields(MosConfig))]
