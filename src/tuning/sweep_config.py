"""A sweep's YAML file: the space to search, the algorithm, the budget; read and checked."""

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Interval
from pydantic import ValidationError

from src.common.errors import UserError
from src.common.plugins import plugin_names
from src.common.ray_cluster import IDLE_CPUS
from src.config.dataclass_validation import fill_dataclass
from src.config.loader import check_keys, load_config, read_yaml
from src.config.plugin_keys import LOSSES
from src.config.schema import Above0, AtLeast0, Config, Count, Seed, Whole
from src.inference.submission import check_submission_path
from src.tracking.run_folder import check_run_name
from src.tuning.search_space import condition_values, domain_contains, domain_ends, is_continuous

# Keys that the scheduler pbt can change between two epochs of one model.
PBT_KEYS = re.compile(
    r"train\.(lr|backbone_lr|weight_decay|clip|self_critical\.(lr|cross_entropy|temperature))"
    r"|model\.(mos_weight|caption_weight|mos\.dropout|mos\.losses\.\w+)"
    r"|model\.decoder\.(dropout|word_dropout|grid_dropout|label_smoothing|doubly_stochastic)"
)


@dataclass
class PbtConfig:
    """Settings of the scheduler pbt, population based training.

    Args:
        interval: number of a trial's evaluations between two exchanges.
        quantile: part of the trials that take over the checkpoint and the values of a better trial in an exchange; the
            better trial is one of the best part of the same size.
        resample: probability that a taken-over value is drawn anew from its range; otherwise it is multiplied by 0.8 or
            1.2, and a choice moves to a neighbour in its list.
    """

    interval: Count = 1
    quantile: Annotated[float, Interval(gt=0, le=0.5)] = 0.25
    resample: Annotated[float, Interval(ge=0, le=1)] = 0.25


@dataclass
class TrialResources:
    """The resources of one trial; fractions share a device.

    Args:
        cpu: number of processor cores of each worker.
        gpu: number of GPUs of each worker.
        workers: number of processes that share each batch of a trial. With {workers: 2, gpu: 1}, 8 GPUs run four
            trials at the same time.
    """

    cpu: Above0 = 1.0
    gpu: AtLeast0 = 0.0
    workers: Count = 1


@dataclass
class SweepConfig:
    """A search over configs.

    Args:
        base: YAML file of the experiment that trials change.
        name: name of the sweep, its folder, its study and its parent run; empty: the file's name.
        space: search space: config key -> one of {choice: [...]}, {float: [low, high]}, {log: [low, high]}, {int: [low,
            high]}, {logint: [low, high]}; float and int take a step: {int: [64, 512], step: 64}. A key with
            `when: {model.decoder.kind: llama}` is drawn only where a choice above it has this value, or a value of
            this list.
        objective: [selected], or two scores of a trial's best evaluation, such as [quality, captioning], for a
            Pareto front. The score train.select decides which evaluation is best and which trials the scheduler stops.
        fixed: config key -> value for all trials.
        final: config key -> value for the full training of the best configuration.
        folds: number of models of the best configuration, each with another fold for validation; their ensemble
            writes the submission. 0: a single model, on the split of base.
        trials: number of trials; 0: limited by hours only.
        hours: time limit of the search in hours, at which running trials stop; 0: no limit.
        failures: number of trials that fail for the same reason before the sweep stops; 0: no limit.
        at_once: maximum number of trials at the same time; 0: as many as the resources at the start allow.
        scheduler: early stop of trials: asha (the worse two thirds), median (those below the others' median) or none;
            or pbt, population based training: no trial is stopped, the worse ones continue from the checkpoints of the
            better ones with changed values. The best trial's model is the result, without a further training.
        grace: number of a trial's evaluations before the scheduler may stop it.
        pbt: settings of the scheduler pbt.
        algorithm: search algorithm: tpe (Optuna's multivariate TPE), gp (a Gaussian process; no conditional keys),
            random, cmaes (numbers only) or nsga2 (for two objectives).
        startup: number of random trials before the algorithm begins.
        resources: resources of a trial.
        seed: seed of the search.
        start: first trials: values by key of the space, an experiment's YAML file (its values of these keys), or the
            name of an earlier sweep (its best trial). Values outside the space are drawn instead.
        predict: photos that the best model predicts after the sweep, as --data of predict; empty: no prediction.
        output: path of the submission.
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
    scheduler: Literal["asha", "median", "none", "pbt"] = "asha"
    grace: Count = 1
    pbt: PbtConfig = field(default_factory=PbtConfig)
    algorithm: Literal["tpe", "gp", "random", "cmaes", "nsga2"] = "tpe"
    startup: Whole = 5
    resources: TrialResources = field(default_factory=TrialResources)
    seed: Seed = 0
    start: list[dict[str, Any] | str] = field(default_factory=list)
    predict: str = ""
    output: str = ""


def load_sweep(path: Path, overrides: dict[str, Any] | None = None) -> SweepConfig:
    """Reads and checks a sweep's file.

    Raises:
        UserError: names the file, the line and the key.
    """
    try:
        sweep = fill_dataclass(SweepConfig, read_yaml(path) | (overrides or {}))
    except UserError as error:
        if not isinstance(cause := error.__cause__, ValidationError):
            raise
        raise UserError(f"{yaml_line(path, *cause.errors()[0]['loc'][1:])}: {error}") from error
    sweep.name = sweep.name or path.stem
    check_sweep(sweep, path)
    if sweep.scheduler == "pbt":
        sweep.algorithm = "random"
    return sweep


def sweep_name(path: Path) -> str:
    """The name of a file's sweep; the rest of the file is not checked."""
    return str(read_yaml(path).get("name") or path.stem)


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
                check_keys([key])
    with locate_errors(path, "base"):
        check_single_runs(trial_config(sweep, {}))
    if sweep.final:
        with locate_errors(path, "final"):
            trial_config(sweep, sweep.final)
    with locate_errors(path, "folds"):
        sources = trial_config(sweep, {}).data.sources
        if sweep.folds and not any(source.split in ("random", "auto") for source in sources):
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
            check_keys([key])
            domain_ends(key, domain)
            condition_values(sweep.space, key)
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
    if sweep.scheduler == "pbt":
        for keys, problem in pbt_conflicts(sweep, read_yaml(path)):
            with locate_errors(path, *keys):
                raise UserError(problem)


def pbt_conflicts(sweep: SweepConfig, given: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The settings that do not go with the scheduler pbt, each with the reason and the remedy.

    Args:
        sweep: with scheduler pbt.
        given: the keys of its file, without defaults.
    """
    if (name := given.get("algorithm", "random")) != "random":
        yield ("algorithm",), f"{name} excludes scheduler pbt, whose first values are random; remove one of the two"
    for key in ("hours", "folds", "final"):
        if getattr(sweep, key):
            reason = "is not for scheduler pbt, which trains all trials to the end and takes the best one's model"
            yield (key,), f"{reason}; remove it"
    if sweep.at_once:
        yield ("at_once",), "scheduler pbt runs as many trials as the resources allow; remove it, or raise resources"
    if len(sweep.objective) > 1:
        yield ("objective",), "scheduler pbt compares trials by one score; set [selected]"
    if sweep.resources.workers > 1:
        yield ("resources",), "scheduler pbt needs trials of one process; set workers to 1"
    if sweep.trials < 2:
        yield ("trials",), "scheduler pbt needs at least 2 trials"
    for key, domain in sweep.space.items():
        losses = [f"model.mos.{name}" for name in plugin_names(LOSSES)]
        if "when" in domain or not (PBT_KEYS.fullmatch(key) or key in losses):
            some = "learning rates, weight decay, dropouts, label smoothing and weights of tasks and losses"
            yield ("space", key), f"{key}: scheduler pbt cannot change it within a training, only {some}; remove it"
    if not any(is_continuous(domain) for domain in sweep.space.values()):
        yield ("space",), "scheduler pbt needs a range, float without step or log, so that no two trials are alike"


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
            pairs = [pair for pair in node.value if pair[0].value == key]
        else:
            pairs = [(item, item) for item in node.value[key : key + 1]] if isinstance(key, int) else []
        if not pairs:
            break
        line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
    return f"{path}:{line}" if line else str(path)


def check_single_runs(config: Config) -> None:
    """Raises UserError where an experiment is a group of runs: a trial is one run."""
    if config.folds or config.seeds > 1:
        raise UserError("folds and seeds are keys of src.train; remove them, and set the sweep's own folds")


def check_values(sweep: SweepConfig, key: str) -> None:
    """Raises UserError where a value of a key's domain does not fit the key's type."""
    for value in domain_ends(key, sweep.space[key]):
        trial_config(sweep, {**condition_values(sweep.space, key), key: value})


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


def trial_config(sweep: SweepConfig, values: dict[str, Any]) -> Config:
    """The config of a trial: the base, over it the fixed values, over these the trial's."""
    return load_config(sweep.base, {**sweep.fixed, **values})


def trials_at_once(sweep: SweepConfig, resources: dict[str, float]) -> int:
    """How many trials run at the same time on a cluster's resources {CPU: .., GPU: ..}; at least 1."""
    if sweep.at_once:
        return sweep.at_once
    needs = {"CPU": sweep.resources.cpu, "GPU": sweep.resources.gpu}
    counts = [resources.get(name, 0) / (need * sweep.resources.workers) for name, need in needs.items() if need]
    return max(1, int(min(counts) + 1e-6))


def trial_resources(sweep: SweepConfig) -> dict[str, float]:
    """Resources of a trial's own process; its workers hold the rest."""
    if sweep.resources.workers > 1:
        return {"cpu": IDLE_CPUS}
    return {"cpu": sweep.resources.cpu, "gpu": sweep.resources.gpu}


def trial_name(sweep: str, values: dict[str, Any]) -> str:
    """A trial's run name, made from its values: the same values find the same run again."""
    text = json.dumps(values, sort_keys=True, default=str)
    return f"{sweep}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
