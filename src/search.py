"""What a sweep's YAML file says: the space to search, the algorithm, the budget."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser

from src.command import check_key, load_config, read_yaml
from src.config import Config
from src.errors import UserError, one_line

if TYPE_CHECKING:
    from optuna import Trial


@dataclass
class Resources:
    """What one trial holds while it runs; fractions share a device.

    Args:
        cpu: processor cores.
        gpu: GPUs.
    """

    cpu: float = 1.0
    gpu: float = 0.0


@dataclass
class Sweep:
    """A Bayesian search over configs.

    Args:
        base: the experiment that trials start from, a YAML file.
        name: the sweep's name: of its folder, its study and its parent run. Empty: the file's name.
        space: config key -> one of {choice: [...]}, {float: [low, high]}, {log: [low, high]}, {int: [low, high]};
            float and int take a step: {int: [64, 512], step: 64}.
        fixed: config key -> value, for every trial.
        final: config key -> value, for training the best out.
        trials: how many.
        at_once: trials at the same time, as far as resources allow.
        scheduler: asha (stops the worse half early) or none.
        grace: evaluations a trial gets before asha may stop it.
        algorithm: tpe (Optuna's multivariate TPE) or random.
        startup: random trials before TPE begins.
        resources: what one trial holds.
        seed: of the search.
        start: parameter sets to try first, each a mapping of keys of the space to values.
        predict: the photos to predict with the best model, in the end; empty: none.
        output: the submission to write.
    """

    base: str = ""
    name: str = ""
    space: dict[str, dict[str, Any]] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)
    trials: int = 20
    at_once: int = 2
    scheduler: Literal["asha", "none"] = "asha"
    grace: int = 1
    algorithm: Literal["tpe", "random"] = "tpe"
    startup: int = 5
    resources: Resources = field(default_factory=Resources)
    seed: int = 0
    start: list[dict[str, Any]] = field(default_factory=list)
    predict: str = ""
    output: str = ""


def load_sweep(path: Path, overrides: dict[str, Any] | None = None) -> Sweep:
    """Reads and checks a sweep's file, so that a wrong one is refused before anything starts.

    Raises:
        UserError: names the file and the key.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Sweep)
    try:
        made = parser.instantiate(parser.parse_object(read_yaml(path) | (overrides or {})))
    except Exception as error:  # jsonargparse raises several kinds, each a wrong key or type
        raise UserError(f"{path}: {one_line(error)}") from error
    sweep = Sweep(**{name: made[name] for name in vars(Sweep())})
    sweep.name = sweep.name or path.stem
    check_space(sweep, path)
    return sweep


def check_space(sweep: Sweep, path: Path) -> None:
    """Raises UserError where a key is none of Config's, a range is none, or a value does not fit the key's type."""
    if not sweep.space:
        raise UserError(f"{path}: space: is empty; name a config key, such as train.lr: {{log: [1e-4, 1e-2]}}")
    for key, domain in sweep.space.items():
        try:
            check_key(key)
            for value in ends(key, domain):
                load_config(sweep.base, {**sweep.fixed, key: value})
        except UserError as error:
            raise UserError(f"{path}: space: {error}") from error
    trial_config(sweep, {}), trial_config(sweep, sweep.final)
    for point in sweep.start:
        if unknown := point.keys() - sweep.space.keys():
            raise UserError(f"{path}: start: {', '.join(sorted(unknown))} is not in space; add it there or remove it")


def ends(key: str, domain: dict[str, Any]) -> list[Any]:
    """The values to check of a domain: all choices, or both ends of a range.

    Raises:
        UserError: the domain has no known form.
    """
    kinds = domain.keys() & {"choice", "float", "log", "int"}
    if len(kinds) != 1 or domain.keys() - kinds - {"step"}:
        raise UserError(f"{key}: must be one of {{choice: [...]}}, {{float: [low, high]}}, {{log: ...}}, {{int: ...}}")
    kind = kinds.pop()
    values = domain[kind]
    if not isinstance(values, list) or not values:
        raise UserError(f"{key}: {kind} needs a list of values")
    if kind != "choice" and not (len(values) == 2 and number(values[0]) < number(values[1])):
        raise UserError(f"{key}: {kind} needs [low, high] with low below high")
    if kind == "log" and number(values[0]) <= 0:
        raise UserError(f"{key}: log needs a low end above 0")
    return values if kind == "choice" else [(int if kind == "int" else float)(v) for v in values]


def number(value: Any) -> float:
    """A number, also one that YAML took for a string, as 1e-4.

    Raises:
        UserError: not a number.
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{value!r} is no number") from error


@dataclass
class Space:
    """Optuna's define-by-run function of a space. A class, since Ray pickles it."""

    domains: dict[str, dict[str, Any]]

    def __call__(self, trial: "Trial") -> None:
        """Draws every value of a trial."""
        for key, domain in self.domains.items():
            step = domain.get("step")
            if "choice" in domain:
                trial.suggest_categorical(key, domain["choice"])
            elif "int" in domain:
                trial.suggest_int(key, *map(int, domain["int"]), step=int(step or 1))
            elif "log" in domain:
                trial.suggest_float(key, *map(number, domain["log"]), log=True)
            else:
                trial.suggest_float(key, *map(number, domain["float"]), step=step)


def trial_config(sweep: Sweep, values: dict[str, Any]) -> Config:
    """The config of a trial: the base, what is fixed, then the values drawn."""
    return load_config(sweep.base, {**sweep.fixed, **values})
