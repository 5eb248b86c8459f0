"""Config keys that plug-ins bring: the options of a decoder's kind and the weights of mos losses.

Both have a short form: model.decoder.KIND stands for model.decoder.options where model.decoder.kind is KIND, and
model.mos.LOSS for model.mos.losses.LOSS. A plug-in's file, and torch with it, is imported when a config is checked.
Held by tests/models/test_plugins.py.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from src.common.errors import UserError
from src.common.plugins import check_plugin, load_plugin, plugin_names
from src.config.dataclass_validation import check_value, fill_dataclass
from src.config.schema import AtLeast0, DecoderConfig, ModelConfig, MosConfig

DECODERS, LOSSES = "src.models.decoders", "src.models.losses"


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


def pop_short_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Moves the losses' short forms into model.mos.losses, and takes those of decoders out of a config as nested dicts.

    Returns:
        The mappings under model.decoder.KIND, by kind.

    Raises:
        UserError: a weight is no number of at least 0.
    """
    decoder, mos = _model_group(tree, "decoder"), _model_group(tree, "mos")
    weights = {name: check_value(AtLeast0, mos.pop(name), f"model.mos.{name}") for name in _losses() if name in mos}
    if weights and isinstance(losses := mos.get("losses", {}), Mapping):
        mos["losses"] = {**losses, **weights}
    return {kind: decoder.pop(kind) for kind in _kinds() if kind in decoder}


def _model_group(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    model = tree.get("model")
    group = model.get(name) if isinstance(model, Mapping) else None
    return group if isinstance(group, dict) else {}


def fill_plugin_settings(model: ModelConfig, groups: Mapping[str, Any]) -> None:
    """Gives a model's config the options of its decoder, over the kind's defaults, and its losses over the default one.

    Args:
        model: its options and losses are replaced.
        groups: options under model.decoder.KIND, by kind; those of another kind are only checked.

    Raises:
        UserError: there is no such decoder or loss, or an option is wrong.
    """
    decoder = model.decoder
    for kind, group in groups.items():
        _fill_options(kind, group, f"model.decoder.{kind}")
    decoder.options = dict(vars(_fill_options(decoder.kind, {**decoder.options, **groups.get(decoder.kind, {})})))
    model.mos.losses = MosConfig().losses | dict(sorted(model.mos.losses.items()))
    for name in model.mos.losses:
        check_plugin(LOSSES, name, "model.mos.losses")


def _fill_options(kind: str, options: Any, where: str = "model.decoder.options") -> Any:
    form = decoder_class(kind).options_type
    if options and not fields(form):
        raise UserError(f"{where}: kind {kind} has no options of its own; remove {', '.join(options)}")
    return fill_dataclass(form, options, where)


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
