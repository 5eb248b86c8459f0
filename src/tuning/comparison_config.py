"""A comparison's YAML file: one experiment, its variants, and the data that they are compared on.

Held by tests/tuning/test_model_comparison.py.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from src.common.errors import UserError
from src.config.dataclass_validation import fill_dataclass
from src.config.loader import check_keys, config_from_dict, merge_trees, nest_key, read_yaml
from src.config.schema import Config, Count, TrackConfig
from src.training.config_checks import check_config

COMPARISON_KEYS = ("part", "photos", "variants")
SHARED = ("train.epochs", "train.minutes", "train.runs", "track.")


@dataclass
class VariantConfig:
    """One model of a comparison.

    Args:
        name: name of the column, and the end of the run's name: letters, digits, dots, dashes.
        include: preset files, by paths relative to the comparison's file. They change the experiment in their order.
        overrides: config key -> value, over the experiment and its presets.
        model: model folder, run name or run id to evaluate, with overrides of data and generate only; empty: a model
            is trained.
    """

    name: str
    include: list[str] = field(default_factory=list)
    overrides: dict[str, Any] = field(default_factory=dict)
    model: str = ""


@dataclass
class ComparisonConfig:
    """The keys of a comparison's file beside those of the experiment that all variants start from.

    Args:
        part: part of the data on which models are scored.
        photos: maximum number of photos whose prediction is timed.
        variants: models, in the order of the table.
    """

    part: Literal["train", "val", "test"] = "val"
    photos: Count = 64
    variants: list[VariantConfig] = field(default_factory=list)


@dataclass
class ComparisonPlan:
    """A comparison ready to run.

    Attributes:
        name: name of its folder, and the beginning of its runs' names.
        base: configuration of the experiment.
        comparison: the comparison's own keys.
        configs: configuration of each variant, by name.
    """

    name: str
    base: Config
    comparison: ComparisonConfig
    configs: dict[str, Config]


def load_comparison(path: Path) -> ComparisonPlan:
    """Reads and checks a comparison's file.

    Raises:
        UserError: names the file, the variant and the key.
    """
    tree = read_yaml(path)
    comparison = read_comparison_keys({key: tree.pop(key) for key in COMPARISON_KEYS if key in tree}, path)
    base = config_from_dict(tree, str(path))
    plan = ComparisonPlan(base.track.name or path.stem, base, comparison, {})
    for variant in comparison.variants:
        try:
            plan.configs[variant.name] = variant_config(variant, tree, plan, path.parent)
        except UserError as error:
            raise UserError(f"{path}: variants: {variant.name}: {error}") from error
    return plan


def read_comparison_keys(tree: dict[str, Any], path: Path) -> ComparisonConfig:
    """The keys of the comparison itself.

    Raises:
        UserError: a wrong key, type or name; no variants, or two of one name.
    """
    try:
        comparison = fill_dataclass(ComparisonConfig, tree)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    names = [variant.name for variant in comparison.variants]
    if not names:
        raise UserError(f"{path}: variants: is empty; list some, such as {{name: gru, overrides: {{KEY: VALUE}}}}")
    for name in names:
        if names.count(name) > 1 or not re.fullmatch(r"[\w-][\w.-]*", name):
            raise UserError(f"{path}: variants: name {name!r}: give each its own, of letters, digits, dots and dashes")
    return comparison


def variant_config(variant: VariantConfig, tree: dict[str, Any], plan: ComparisonPlan, folder: Path) -> Config:
    """A variant's config: the experiment, its presets, its overrides; then the budget, which is the same for all.

    Args:
        variant: of the comparison.
        tree: the experiment, nested.
        plan: name and base of the comparison.
        folder: that presets are relative to.

    Raises:
        UserError: an unknown key, a wrong value, or one that is not the variant's to set.
    """
    check_overrides(variant)
    for file in variant.include:
        tree = merge_trees(tree, read_yaml(folder / file))
    config = with_overrides(tree, variant.overrides)
    config.train.epochs, config.train.minutes = plan.base.train.epochs, plan.base.train.minutes
    config.train.runs = plan.base.train.runs
    config.track = TrackConfig(plan.base.track.experiment, f"{plan.name}-{variant.name}")
    if not variant.model:
        check_config(config)
    return config


def with_overrides(tree: dict[str, Any], overrides: dict[str, Any]) -> Config:
    """The config of an experiment, nested, with dotted overrides over it. Raises UserError as config_from_dict."""
    for key, value in overrides.items():
        tree = merge_trees(tree, nest_key(key, value))
    return config_from_dict(tree, "include")


def check_overrides(variant: VariantConfig) -> None:
    """Raises UserError where a key is none of Config's, is shared by all variants, or has no effect."""
    for key in variant.overrides:
        check_keys([key])
        if key.startswith(SHARED):
            raise UserError(f"{key} is the same for all variants; set it at the top of the file")
        if variant.model and not key.startswith(("generate.", "data.")):
            raise UserError(f"{key}: {variant.model} is only evaluated; override keys of generate and data alone")
    if variant.model and variant.include:
        raise UserError(f"include: {variant.model} is only evaluated; leave it out")
