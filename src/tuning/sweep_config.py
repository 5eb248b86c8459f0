"""What a sweep's YAML file says: the space to search, the algorithm, the budget."""

import hashlib
import importlib.util
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from src.common.errors import UserError
from src.config.loader import check_key, fill_dataclass, load_config, nearest_key_hint, read_yaml
from src.config.plugin_keys import config_value
from src.config.schema import Above0, AtLeast0, Config, Count, Seed, Whole, to_dict
from src.inference.submission import check_submission_path
from src.tracking.run_folder import check_run_name

if TYPE_CHECKING:
    from optuna import Trial

Domain = dict[str, Any]
KINDS = {"choice", "float", "log", "int", "logint"}
FORMS = "{choice: [...]}, {float: [low, high]}, {log: ...}, {int: ...}, {logint: ...}"


@dataclass
class TrialResources:
    """What one trial holds while it runs; fractions share a device.

    Args:
        cpu: processor cores, of each worker.
        gpu: GPUs, of each worker.
        workers: processes that share each batch of a trial: {workers: 2, gpu: 1} is four trials at once on 8 GPUs.
    """

    cpu: Above0 = 1.0
    gpu: AtLeast0 = 0.0
    workers: Count = 1


@dataclass
class SweepConfig:
    """A Bayesian search over configs.

    Args:
        base: the experiment that trials start from, a YAML file.
        name: the sweep's name: of its folder, its study and its parent run. Empty: the file's name.
        space: config key -> one of {choice: [...]}, {float: [low, high]}, {log: [low, high]}, {int: [low, high]},
            {logint: [low, high]}; float and int take a step: {int: [64, 512], step: 64}. A key with
            `when: {model.decoder.kind: llama}` is asked only where a choice above it was drawn so; a list is any of it.
        objective: [selected], or two scores of a trial's best evaluation, such as [quality, captioning], for a
            Pareto front. The scheduler, and a trial's best evaluation, go by the selected score (train.select).
        fixed: config key -> value, for every trial.
        final: config key -> value, for training the best out.
        folds: train the best out so many times, each time with another part held out; all of them write the submission
            together. 0: once, on the base's own split.
        trials: how many; 0: as many as the hours allow.
        hours: no trial starts, and those running are stopped, after so many hours of search; 0: no limit.
        failures: the sweep stops when so many trials failed for one reason; 0: never.
        at_once: most trials at the same time; 0: as many as there are resources for when the search begins.
        scheduler: asha (stops the worse two thirds early), median (those below the others' median) or none.
        grace: evaluations a trial gets before the scheduler may stop it.
        algorithm: tpe (Optuna's multivariate TPE), gp (a Gaussian process; no conditional keys), random, cmaes (numbers
            only) or nsga2 (for two objectives).
        startup: random trials before the algorithm begins.
        resources: what one trial holds.
        seed: of the search.
        start: what to try first: mappings of keys of the space to values, an experiment's YAML file (its values of
            those keys), or the name of an earlier sweep (its best). Values outside of the space are drawn instead.
        predict: the photos to predict with the best model, in the end; empty: none.
        output: the submission to write.
    """

    base: str = ""
    name: str = ""
    space: dict[str, dict[str, Any]] = field(default_factory=dict)
    objective: list[str] = field(default_factory=lambda: ["selected"])
    fixed: dict[str, Any] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)
    folds: Whole = 0
    trials: Whole = 20
    hours: AtLeast0 = 0.0
    failures: Whole = 5
    at_once: Whole = 0
    scheduler: Literal["asha", "median", "none"] = "asha"
    grace: Count = 1
    algorithm: Literal["tpe", "gp", "random", "cmaes", "nsga2"] = "tpe"
    startup: Whole = 5
    resources: TrialResources = field(default_factory=TrialResources)
    seed: Seed = 0
    start: list[dict[str, Any] | str] = field(default_factory=list)
    predict: str = ""
    output: str = ""


def load_sweep(path: Path, overrides: dict[str, Any] | None = None) -> SweepConfig:
    """Reads and checks a sweep's file, so that a wrong one is refused before anything starts.

    Raises:
        UserError: names the file, the line and the key.
    """
    tree = read_yaml(path)
    if unknown := [key for key in tree if key not in vars(SweepConfig())]:
        where = yaml_line(path, unknown[0])
        raise UserError(f"{where}: unknown key {unknown[0]}{nearest_key_hint(unknown[0], list(vars(SweepConfig())))}")
    try:
        sweep = fill_dataclass(SweepConfig, tree | (overrides or {}))
    except UserError as error:
        named = re.search(r"[Kk]ey '?\"?([\w.]+)", str(error.__cause__))
        where = yaml_line(path, *named.group(1).split(".")) if named else str(path)
        raise UserError(f"{where}: {error}") from error
    sweep.name = sweep.name or path.stem
    check_sweep(sweep, path)
    return sweep


def check_sweep(sweep: SweepConfig, path: Path) -> None:
    """Raises UserError where a part of the file is wrong.

    A key is none of Config's, a range is none, a value does not fit the key's type, the name stands for something else,
    or no submission can be written.
    """
    check_forms(sweep, path)
    check_run_name(sweep.name, f"{yaml_line(path, 'name')}: name")
    if sweep.predict:
        with locate_errors(path, "output"):
            check_submission_path(Path(sweep.output))
    for name in ("fixed", "final"):
        for key in getattr(sweep, name):
            with locate_errors(path, name, key):
                check_key(key)
    with locate_errors(path, "base"):
        trial_config(sweep, {})
    if sweep.final:
        with locate_errors(path, "final"):
            trial_config(sweep, sweep.final)
    with locate_errors(path, "folds"):
        if sweep.folds and all(source.split != "random" for source in trial_config(sweep, {}).data.sources):
            raise UserError("every source of base has a split of its own; set 0, or split: random")
    for key in sweep.space:
        with locate_errors(path, "space", key):
            check_values(sweep, key)


def check_forms(sweep: SweepConfig, path: Path) -> None:
    """Raises UserError where a part of the file has a wrong form or does not go with another."""
    with locate_errors(path, "space"):
        if not sweep.space:
            raise UserError("is empty; name a config key, such as train.lr: {log: [1e-4, 1e-2]}")
    for key, domain in sweep.space.items():
        with locate_errors(path, "space", key):
            check_key(key)
            domain_ends(key, domain)
            condition(sweep, key)
    with locate_errors(path, "objective"):
        check_objective(sweep)
    with locate_errors(path, "algorithm"):
        check_algorithm(sweep)
    with locate_errors(path, "folds"):
        if sweep.folds == 1:
            raise UserError("1 is no number of folds: set 0, or at least 2")
    with locate_errors(path, "trials"):
        if not (sweep.trials or sweep.hours):
            raise UserError("give a number of trials, or hours")
    for i in range(len(sweep.start)):
        with locate_errors(path, "start", i):
            check_start(sweep, sweep.start[i])


@contextmanager
def locate_errors(path: Path, *keys: str | int) -> Iterator[None]:
    """Puts file, line and section before the message of a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{yaml_line(path, *keys)}: {keys[0]}: {error}") from error


def yaml_line(path: Path, *keys: str | int) -> str:
    """`sweep.yaml:12`, where nested keys stand, or as many of them as the file has; included files are not read."""
    node: Any = yaml.compose(path.read_text(encoding="utf-8"))
    line = 0
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [pair for pair in node.value if pair[0].value == key]
        else:
            found = [(one, one) for one in node.value[key : key + 1]] if isinstance(key, int) else []
        if not found:
            break
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return f"{path}:{line}" if line else str(path)


def check_values(sweep: SweepConfig, key: str) -> None:
    """Raises UserError where a value that a key may take does not fit the key's type."""
    under = {**sweep.fixed, **condition(sweep, key)}
    for value in domain_ends(key, sweep.space[key]):
        load_config(sweep.base, {**under, key: value})


def condition(sweep: SweepConfig, key: str) -> dict[str, Any]:
    """Values of other keys under which a key is asked; none where it always is.

    Raises:
        UserError: its `when` names no choice that stands above the key, or a value that is not offered there.
    """
    when = sweep.space[key].get("when", {})
    if not isinstance(when, dict):
        raise UserError(f"{key}: when needs a mapping, such as {{model.decoder.kind: recurrent}}")
    above = list(sweep.space)[: list(sweep.space).index(key)]
    for parent, wanted in when.items():
        if parent not in above or "choice" not in sweep.space[parent]:
            raise UserError(f"{key}: when: {parent} is no choice above it in space; put one there")
        for value in as_list(wanted):
            if value not in sweep.space[parent]["choice"]:
                raise UserError(f"{key}: when: {parent} is never {value}; choose from {sweep.space[parent]['choice']}")
    return {parent: as_list(wanted)[0] for parent, wanted in when.items()}


def as_list(value: Any) -> list[Any]:
    """A list as it is, anything else as a list of one."""
    return value if isinstance(value, list) and value else [value]


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
    return [(int if kind.endswith("int") else float)(v) for v in values]


def yaml_number(value: Any) -> float:
    """A finite number, also one that YAML took for a string, as 1e-4.

    Raises:
        UserError: not a number, or not a finite one.
    """
    try:
        found = float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{value!r} is no number") from error
    if not math.isfinite(found):
        raise UserError(f"{value!r} is no finite number; set one")
    return found


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


def check_start(sweep: SweepConfig, point: dict[str, Any] | str) -> None:
    """Raises UserError where a starting point has a key or a value that the space lacks, or no readable file."""
    if isinstance(point, str):
        if point.endswith(".yaml"):
            load_config(point)
        return
    if unknown := point.keys() - sweep.space.keys():
        raise UserError(f"{', '.join(sorted(unknown))} is not in space; add it there or remove it")
    for key, value in point.items():
        if not domain_contains(sweep.space[key], value):
            raise UserError(f"{key}: {value} is outside of {sweep.space[key]}; change one of them")


def check_objective(sweep: SweepConfig) -> None:
    """Raises UserError where there are neither one nor two objectives."""
    names = sweep.objective
    if len(names) == 1 and names != ["selected"]:
        raise UserError(f"one score is searched as [selected], with `fixed: {{train.select: {names[0]}}}`")
    if len(names) not in (1, 2) or len(set(names)) != len(names):
        raise UserError("needs [selected], or two scores, such as [quality, captioning]")


def check_algorithm(sweep: SweepConfig) -> None:
    """Raises UserError where an algorithm cannot search the space or the objectives."""
    name = sweep.algorithm
    for key, domain in sweep.space.items():
        if name in ("gp", "cmaes") and "when" in domain:
            raise UserError(f"{name} cannot search {key}, which is conditional; choose tpe or random")
        if name == "cmaes" and "choice" in domain:
            raise UserError(f"cmaes cannot search {key}, which is a choice; choose tpe, gp or random")
    if name == "cmaes" and len(sweep.objective) > 1:
        raise UserError("cmaes searches one objective; choose tpe, gp, random or nsga2")
    if name == "nsga2" and len(sweep.objective) == 1:
        raise UserError("nsga2 searches two objectives; choose tpe, gp or random")
    if name == "cmaes" and not importlib.util.find_spec("cmaes"):
        raise UserError("cmaes needs a package of its own: pip install cmaes; or choose tpe, gp or random")


@dataclass
class SearchSpace:
    """Optuna's define-by-run function of a space. A class, since Ray pickles it."""

    domains: dict[str, Domain]

    def __call__(self, trial: "Trial") -> None:
        """Draws every value of a trial whose condition holds."""
        drawn: dict[str, Any] = {}
        for key, domain in self.domains.items():
            if condition_holds(domain.get("when", {}), drawn):
                drawn[key] = suggest_value(trial, key, domain)


def condition_holds(when: dict[str, Any], drawn: dict[str, Any]) -> bool:
    """Whether the values drawn so far are those of a condition."""
    return all(parent in drawn and drawn[parent] in as_list(wanted) for parent, wanted in when.items())


def suggest_value(trial: "Trial", key: str, domain: Domain) -> Any:
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
    return trial.suggest_float(
        key, *map(yaml_number, domain["float"]), step=None if step is None else yaml_number(step)
    )


def trial_config(sweep: SweepConfig, values: dict[str, Any]) -> Config:
    """The config of a trial: the base, what is fixed, then the values drawn."""
    return load_config(sweep.base, {**sweep.fixed, **values})


def trials_at_once(sweep: SweepConfig, there: dict[str, float]) -> int:
    """How many trials run at the same time on a cluster's resources {CPU: .., GPU: ..}; at least 1."""
    if sweep.at_once:
        return sweep.at_once
    held = {"CPU": sweep.resources.cpu, "GPU": sweep.resources.gpu}
    room = [there.get(name, 0) / (each * sweep.resources.workers) for name, each in held.items() if each]
    return max(1, int(min(room) + 1e-6))


def trial_name(sweep: str, values: dict[str, Any]) -> str:
    """A trial's run name, which its values decide: the same values find the same run again."""
    text = json.dumps(values, sort_keys=True, default=str)
    return f"{sweep}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def preset_point(sweep: SweepConfig, path: str) -> dict[str, Any]:
    """An experiment's values of the space's keys, where the space can draw them."""
    point: dict[str, Any] = {}
    config = to_dict(load_config(path))
    for key, domain in sweep.space.items():
        value = config_value(config, key)
        if domain_contains(domain, value):
            point[key] = value
    return point


def short_names(keys: list[str]) -> dict[str, str]:
    """Dotted key -> as many of its last parts as tell it from the others: lr, decoder.dropout, mos.dropout."""
    names = {}
    for key in keys:
        parts = key.split(".")
        tails = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        clear = [tail for tail in tails if sum(f".{other}".endswith(f".{tail}") for other in keys) == 1]
        names[key] = (clear or [key])[0]
    return names
