"""Config keys that plug-ins bring: the options of a kind of decoder or of mos head, and the weights of mos losses.

All have a short form: model.decoder.KIND stands for model.decoder.options where model.decoder.kind is KIND,
model.mos.KIND likewise, and model.mos.LOSS for model.mos.losses.LOSS. A plug-in's file, and torch with it, is imported
when a config is checked. Held by tests/models/test_plugins.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from src.common.errors import UserError
from src.common.plugins import check_plugin, load_plugin, plugin_names
from src.config.dataclass_validation import check_value, fill_dataclass
from src.config.schema import AtLeast0, DecoderConfig, ModelConfig, MosConfig

DECODERS, MOS_HEADS, LOSSES = "src.models.decoders", "src.models.mos_heads", "src.models.losses"
HEADS: dict[str, tuple[str, type[Any]]] = {"decoder": (DECODERS, DecoderConfig), "mos": (MOS_HEADS, MosConfig)}


@dataclass
class NoOptions:
    """Of a kind that has no settings but those of its head's config."""


def decoder_class(kind: str) -> type[Any]:
    """The decoder of a kind, a subclass of src.models.decoders.base.CaptionDecoder.

    Raises:
        UserError: there is no such kind.
    """
    return load_plugin(DECODERS, kind, "model.decoder.kind").DECODER


def mos_head_class(kind: str) -> type[Any]:
    """The mos head of a kind, a subclass of src.models.mos_heads.base.MosHead.

    Raises:
        UserError: there is no such kind.
    """
    return load_plugin(MOS_HEADS, kind, "model.mos.kind").HEAD


def short_keys() -> dict[str, Any]:
    """The short forms with their types: model.HEAD.KIND, a mapping, and model.mos.LOSS, a weight."""
    kinds = {f"model.{head}.{kind}": dict for head in HEADS for kind in _kinds(head)}
    return {**kinds, **{f"model.mos.{name}": AtLeast0 for name in _losses()}}


def option_keys(key: str) -> list[str]:
    """The keys model.HEAD.KIND.OPTION of the kind that a dotted key names; none where it names no kind."""
    model, head, kind, option = (*key.split(".", 3), "", "", "")[:4]
    if model != "model" or head not in HEADS or not option or kind not in _kinds(head):
        return []
    return [f"model.{head}.{kind}.{field.name}" for field in fields(_options_type(head, kind))]


def pop_short_keys(tree: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Moves the losses' short forms into model.mos.losses, and takes those of kinds out of a config as nested dicts.

    Returns:
        The mappings under model.HEAD.KIND, by (head, kind).

    Raises:
        UserError: a weight is no number of at least 0.
    """
    mos = _model_group(tree, "mos")
    weights = {name: check_value(AtLeast0, mos.pop(name), f"model.mos.{name}") for name in _losses() if name in mos}
    if weights and isinstance(losses := mos.get("losses", {}), Mapping):
        mos["losses"] = {**losses, **weights}
    groups = {head: _model_group(tree, head) for head in HEADS}
    return {(head, kind): groups[head].pop(kind) for head in HEADS for kind in _kinds(head) if kind in groups[head]}


def _model_group(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    model = tree.get("model")
    group = model.get(name) if isinstance(model, Mapping) else None
    return group if isinstance(group, dict) else {}


def fill_plugin_settings(model: ModelConfig, groups: Mapping[tuple[str, str], Any]) -> None:
    """Gives a model's config the options of its heads, over their kinds' defaults, and its losses over the default one.

    Args:
        model: its options and losses are replaced.
        groups: options under model.HEAD.KIND, by (head, kind); those of another kind are only checked.

    Raises:
        UserError: there is no such kind or loss, or an option is wrong.
    """
    for (name, kind), group in groups.items():
        _fill_options(name, kind, group, f"model.{name}.{kind}")
    for name in HEADS:
        head = getattr(model, name)
        options = {**head.options, **groups.get((name, head.kind), {})}
        head.options = dict(vars(_fill_options(name, head.kind, options, f"model.{name}.options")))
    model.mos.losses = MosConfig().losses | dict(sorted(model.mos.losses.items()))
    for name in model.mos.losses:
        check_plugin(LOSSES, name, "model.mos.losses")


def _fill_options(head: str, kind: str, options: Any, where: str) -> Any:
    form = _options_type(head, kind)
    if options and not fields(form):
        raise UserError(f"{where}: kind {kind} has no options of its own; remove {', '.join(options)}")
    return fill_dataclass(form, options, where)


def _options_type(head: str, kind: str) -> type[Any]:
    return (decoder_class if head == "decoder" else mos_head_class)(kind).options_type


def config_value(tree: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key, also in its short form, in a config as nested dicts; None where it has none."""
    for name in HEADS:
        head = tree["model"][name]
        if key.startswith(prefix := f"model.{name}.{head['kind']}."):
            return head["options"].get(key.removeprefix(prefix))
    if key in (f"model.mos.{name}" for name in _losses()):
        return tree["model"]["mos"]["losses"].get(key.removeprefix("model.mos."), 0.0)
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _kinds(head: str) -> list[str]:
    """Kinds of a head whose names are no keys of its config themselves."""
    package, config = HEADS[head]
    return [kind for kind in plugin_names(package) if kind not in (field.name for field in fields(config))]


def _losses() -> list[str]:
    """Losses whose names are no keys of model.mos themselves, and no kinds of mos heads."""
    taken = {*(field.name for field in fields(MosConfig)), *plugin_names(MOS_HEADS)}
    return [name for name in plugin_names(LOSSES) if name not in taken]
