"""The space of a sweep: config key -> domain, in the order in which Optuna draws them.

A domain is {choice: [...]}, {float: [low, high]}, {log: ...}, {int: ...} or {logint: ...}; float and int take a `step`.
A key with `when: {KEY: VALUE or VALUES}` is drawn only where a choice above it has such a value.
"""

import math
from dataclasses import dataclass
from typing import Any

from optuna import Trial

from src.common.errors import UserError
from src.config.loader import load_config
from src.config.plugin_keys import config_value
from src.config.schema import to_dict

Domain = dict[str, Any]
Space = dict[str, Domain]
KINDS = {"choice", "float", "log", "int", "logint"}
FORMS = "{choice: [...]}, {float: [low, high]}, {log: ...}, {int: ...}, {logint: ...}"


@dataclass
class SearchSpace:
    """Optuna's define-by-run function of a space. A class, since Ray pickles it."""

    domains: Space

    def __call__(self, trial: Trial) -> None:
        """Draws every value of a trial whose condition holds."""
        values: dict[str, Any] = {}
        for key, domain in self.domains.items():
            if all(p in values and values[p] in as_list(allowed) for p, allowed in domain.get("when", {}).items()):
                values[key] = suggest_value(trial, key, domain)


def suggest_value(trial: Trial, key: str, domain: Domain) -> Any:
    """Draws one value."""
    step = domain.get("step")
    if "choice" in domain:
        return trial.suggest_categorical(key, domain["choice"])
    if "int" in domain:
        return trial.suggest_int(key, *map(int, domain["int"]), step=int(step or 1))
    if "logint" in domain:
        return trial.suggest_int(key, *map(int, domain["logint"]), log=True)
    if "log" in domain:
        return trial.suggest_float(key, *map(yaml_number, domain["log"]), log=True)
    low, high = map(yaml_number, domain["float"])
    return trial.suggest_float(key, low, high, step=None if step is None else yaml_number(step))


def condition_values(space: Space, key: str) -> dict[str, Any]:
    """Values of other keys under which a key is drawn; none where it always is.

    Raises:
        UserError: its `when` names no choice above the key, or a value that this choice does not offer.
    """
    above = list(space)[: list(space).index(key)]
    conditions = space[key].get("when", {})
    if not isinstance(conditions, dict):
        raise UserError(f"{key}: when needs a mapping, such as {{model.decoder.kind: recurrent}}")
    for parent, allowed in conditions.items():
        if parent not in above or "choice" not in space[parent]:
            raise UserError(f"{key}: when: {parent} is no choice above it in space; put one there")
        for value in as_list(allowed):
            if value not in space[parent]["choice"]:
                raise UserError(f"{key}: when: {parent} is never {value}; choose from {space[parent]['choice']}")
    return {parent: as_list(allowed)[0] for parent, allowed in conditions.items()}


def domain_ends(key: str, domain: Domain) -> list[Any]:
    """The values to check of a domain: all choices, or both ends of a range.

    Raises:
        UserError: the domain has no known form.
    """
    kinds = domain.keys() & KINDS
    if len(kinds) != 1 or domain.keys() - kinds - {"step", "when"}:
        raise UserError(f"{key}: must be one of {FORMS}, with `step` and `when` where needed")
    kind = kinds.pop()
    values = domain[kind]
    if not isinstance(values, list) or not values:
        raise UserError(f"{key}: {kind} needs a list of values")
    steps = [domain["step"]] if "step" in domain else []
    if steps and (kind not in ("float", "int") or yaml_number(steps[0]) <= 0):
        raise UserError(f"{key}: a step above 0 goes with float and int only; remove it")
    if kind.endswith("int") and any(yaml_number(value) % 1 for value in values + steps):
        raise UserError(f"{key}: {kind} needs whole numbers; round them, or take float or log")
    if kind == "choice":
        return values
    if not (len(values) == 2 and yaml_number(values[0]) < yaml_number(values[1])):
        raise UserError(f"{key}: {kind} needs [low, high] with low below high")
    if kind.startswith("log") and yaml_number(values[0]) <= 0:
        raise UserError(f"{key}: {kind} needs a low end above 0")
    return [(int if kind.endswith("int") else float)(value) for value in values]


def domain_contains(domain: Domain, value: Any) -> bool:
    """Whether a domain can draw a value."""
    if "choice" in domain:
        return value in domain["choice"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    kind = (domain.keys() & KINDS).pop()
    low, high = map(yaml_number, domain[kind])
    step = yaml_number(domain.get("step", 1 if kind.endswith("int") else 0))
    steps = (value - low) / step if step else 0.0
    return low <= value <= high and math.isclose(steps, round(steps), abs_tol=1e-8)


def is_continuous(domain: Domain) -> bool:
    """Whether a domain is a range of real numbers, from which two values are never the same."""
    return "log" in domain or ("float" in domain and "step" not in domain)


def nearest_value(domain: Domain, value: Any) -> Any:
    """The value of a domain that is nearest to a number; a choice as it is."""
    if "choice" in domain:
        return value
    kind = (domain.keys() & KINDS).pop()
    low, high = map(yaml_number, domain[kind])
    step = yaml_number(domain.get("step", 1 if kind.endswith("int") else 0))
    value = min(max(value, low), high)
    if step:
        value = low + step * min(round((value - low) / step), (high - low) // step)
    return int(value) if kind.endswith("int") else float(value)


def preset_point(space: Space, path: str) -> dict[str, Any]:
    """An experiment's values of the space's keys, where the space can draw them."""
    config = to_dict(load_config(path))
    return drawable_values(space, {key: config_value(config, key) for key in space})


def drawable_values(space: Space, values: dict[str, Any]) -> dict[str, Any]:
    """Those of some values, by key, that the space can draw."""
    return {key: value for key, value in values.items() if key in space and domain_contains(space[key], value)}


def yaml_number(value: Any) -> float:
    """A finite number, also where YAML reads it as text: 1e-4.

    Raises:
        UserError: not a number, or not a finite one.
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{value!r} is no number") from error
    if not math.isfinite(number):
        raise UserError(f"{value!r} is no finite number; set one")
    return number


def as_list(value: Any) -> list[Any]:
    """A list as it is, anything else as a list of one."""
    return value if isinstance(value, list) and value else [value]


def short_names(keys: list[str]) -> dict[str, str]:
    """Dotted key -> as many of its last parts as tell it from the others: lr, decoder.dropout, mos.dropout."""
    names = {}
    for key in keys:
        parts = key.split(".")
        tails = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        clear = [tail for tail in tails if sum(f".{other}".endswith(f".{tail}") for other in keys) == 1]
        names[key] = (clear or [key])[0]
    return names
