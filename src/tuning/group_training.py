"""A group of runs: one experiment on each of its folds and with several seeds, then one run on all images.

Each run has its own folder, resumes from its checkpoint, and is not repeated once it is done.
"""

import math
import statistics
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.common.errors import UserError, one_line
from src.common.ray_cluster import IDLE_CPUS, enter_working_folder, ray_session
from src.config.schema import Config, to_dict
from src.evaluation.out_of_fold import MemberPredictions, OofScores, oof_table, score_out_of_fold
from src.models.backbones.base import resolve_backbone
from src.plots.mos import plot_mos_scatter
from src.tracking.abandoned_runs import end_when_gone
from src.tracking.finished_runs import RunGroup, find_group
from src.tracking.mlflow_client import tracking_uri
from src.tracking.mlflow_tracker import Tracker
from src.tracking.run_folder import RunFolder, run_name
from src.tracking.run_group import OOF, OOF_SCORES, write_group, write_oof
from src.tracking.run_lock import wait_until_free
from src.training.config_checks import check_config, check_places
from src.training.datamodule import build_feature_store
from src.training.run import train


@dataclass(frozen=True)
class Member:
    """A run of a group: its config, the fold that it holds out, its seed."""

    config: Config
    fold: int
    seed: int

    @property
    def run(self) -> RunFolder:
        """Its run folder."""
        return RunFolder(Path(self.config.train.runs) / self.config.track.name)


@dataclass
class GroupResult:
    """A group, the results of its runs in their order, and its out-of-fold scores."""

    group: RunGroup
    results: list[dict[str, Any]]
    scores: OofScores


def train_group(
    config: Config, again: bool = False, at_once: int = 1, refit: bool = False, replace_changed: bool = False
) -> GroupResult:
    """Trains the runs of a group that are not done yet, scores them out of fold, and writes the group.

    Args:
        config: the experiment, with `folds` and `seeds`.
        again: throw away earlier runs of the same names.
        at_once: number of runs at the same time, as far as Ray's resources allow; 1: in this process.
        refit: then train on all images, for the folds' median best epoch.
        replace_changed: throw away earlier runs of the same names, but of another config.

    Raises:
        UserError: bad config or data, an earlier run of another config, or as `train`.
    """
    config = resolve_backbone(config)
    name = config.track.name or run_name(config).replace("run-", "group-")
    folder = Path(config.train.runs) / name
    check_group(config, folder)
    members = make_members(config, name)
    final = refit_config(config, name) if refit else None
    for member in members:
        discard_earlier(member.run, member.config, again, replace_changed)
    tags = {"kind": "group"}
    with Tracker.start(replace(config.track, name=name), folder, to_dict(config), tags) as tracker:
        for member in members:
            member.config.track.parent = tracker.run_id
        train_members(members, at_once)
        group = make_group(folder, config, members)
        scores = finish_group(group, members, tracker)
        if final is not None:
            final.track.parent = tracker.run_id
            group = replace(group, refit=train_refit(final, members, again))
            write_group(group)
    return GroupResult(group, [member.run.finished() for member in members], scores)


def check_group(config: Config, folder: Path) -> None:
    """Raises UserError where an experiment cannot be trained as a group in a folder; before any work."""
    if config.folds == 1:
        raise UserError("folds is 1: set 0 for none, or at least 2")
    if config.data.folds:
        raise UserError("data.folds: is one run's; leave it out beside folds")
    if config.folds and not any(source.split in ("random", "auto") for source in config.data.sources):
        raise UserError("folds: every source has a split of its own; set 0, or split: random")
    if (folder / "config.json").exists():
        raise UserError(f"{folder}: holds a single run; choose another --track.name for the group")
    check_config(replace(config, folds=0, seeds=1))
    check_places(config)


def make_members(config: Config, name: str) -> list[Member]:
    """The runs of a group, by fold and then seed."""
    members = []
    for fold in range(max(1, config.folds)):
        for seed in range(config.train.seed, config.train.seed + config.seeds):
            single = deepcopy(replace(config, folds=0, seeds=1))
            single.track.name = f"{name}-fold{fold}-seed{seed}" if config.folds else f"{name}-seed{seed}"
            single.data.folds, single.data.fold, single.train.seed = config.folds, fold, seed
            members.append(Member(single, fold, seed))
    return members


def discard_earlier(run: RunFolder, config: Config, again: bool, replace_changed: bool) -> None:
    """Empties a run's folder where it is to be trained again.

    Raises:
        UserError: it holds a run of another config that is not to be replaced.
    """
    if run.path.exists() and (again or (replace_changed and run.changed(config))):
        run.clear()
    run.check_config(config, "choose another --track.name, or give --again true to start all runs anew")


def make_group(folder: Path, config: Config, members: Sequence[Member]) -> RunGroup:
    """The group of some runs, with the run on all images that an earlier command trained for the same runs."""
    names = [member.config.track.name for member in members]
    earlier = find_group(str(folder))
    refit = earlier.refit if earlier and earlier.members == names else ""
    return RunGroup(folder, folder.name, config.folds, config.seeds, names, refit)


def train_members(members: Sequence[Member], at_once: int) -> None:
    """Trains those of a group's runs that are not done yet."""
    missing = [member for member in members if not member.run.result.exists()]
    if len(missing) < len(members):
        print(f"{len(members) - len(missing)} of {len(members)} runs are already done", file=sys.stderr)
    if at_once > 1 and len(missing) > 1:
        train_in_ray(missing, at_once)
        return
    for number, member in enumerate(missing, 1):
        print(f"run {number}/{len(missing)}: {member.config.track.name}", file=sys.stderr)
        train(member.config)


def train_in_ray(members: Sequence[Member], at_once: int) -> None:
    """Trains several runs at a time in processes of Ray, which starts a run again, from its checkpoint, if one dies.

    Raises:
        UserError: a run raised it; the others end, and resume when the command is given again.
    """
    config = members[0].config
    if config.data.cache and config.model.backbone.cacheable:
        build_feature_store(config)  # once, for all
    with ended_runs(members), ray_session(tracking_uri()):
        import ray

        cpus, resources = run_resources(config, at_once)
        task = ray.remote(train_in_worker).options(max_retries=3, **resources)
        waiting, running = deque(members), dict[Any, Member]()
        while waiting or running:
            while waiting and len(running) < at_once:
                member = waiting.popleft()
                running[task.remote(member.config, cpus, str(Path.cwd()))] = member
            [ready], _ = ray.wait(list(running), num_returns=1)
            name = running.pop(ready).config.track.name
            try:
                result = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise error.cause or error from error
            except ray.exceptions.RayError as error:
                remedy = "look at the machine's memory, then give the same command again"
                raise UserError(f"{name}: its process died too often ({one_line(error)[:200]}); {remedy}") from error
            done = len(members) - len(waiting) - len(running)
            print(f"run {done}/{len(members)}: {result['name']}  {result['seconds']:.1f} s", file=sys.stderr)


def run_resources(config: Config, at_once: int) -> tuple[int, dict[str, float]]:
    """The threads of each of several runs at a time, and what Ray reserves for it."""
    import ray

    total, nodes = ray.cluster_resources(), [node["Resources"].get("CPU", 0) for node in ray.nodes()]
    cpus = config.train.threads or max(1, int(min(total.get("CPU", 1) / at_once, max(nodes))))
    if config.train.workers > 1:  # which hold the rest
        return cpus, {"num_cpus": IDLE_CPUS}
    gpus = total.get("GPU", 0)
    return cpus, {"num_cpus": cpus, "num_gpus": 1 / math.ceil(at_once / gpus) if gpus else 0}


def train_in_worker(config: Config, threads: int, home: str) -> dict[str, Any]:
    """Trains one run in a process of Ray."""
    enter_working_folder(home)
    config.train.threads = threads
    wait_until_free(RunFolder(Path(config.train.runs) / config.track.name).path)  # by a process of an earlier command
    return train(config)


@contextmanager
def ended_runs(members: Sequence[Member]) -> Iterator[None]:
    """Ends in MLflow, after an error of the block, the runs whose processes ended with it."""
    try:
        yield
    except BaseException:
        for member in members:
            if member.run.path.is_dir():
                end_when_gone(member.run.path, "KILLED")
        raise


def finish_group(group: RunGroup, members: Sequence[Member], tracker: Tracker) -> OofScores:
    """Scores a group's runs out of fold, and writes scores, predictions and, last, the group itself."""
    parts = [MemberPredictions.read(member.run.path, member.fold, member.seed) for member in members]
    predictions, scores = score_out_of_fold(parts)
    write_oof(group.folder, oof_table(parts))
    tracker.log_artifact(group.folder / OOF)
    tracker.log_text(scores.to_json(), OOF_SCORES)
    tracker.log_metrics(scores.metrics())
    true, predicted = np.array(predictions.mos_true), np.array(predictions.mos)
    if np.isfinite(predicted).any():
        tracker.log_figure(plot_mos_scatter(true, predicted), "plots/oof_mos.png")
    write_group(group)
    return scores


def refit_config(config: Config, name: str) -> Config:
    """The config of the run on all images, without its number of epochs.

    Raises:
        UserError: the learning rate follows a validation score, which this run lacks.
    """
    final = deepcopy(replace(config, folds=0, seeds=1))
    final.track.name, final.data.train_on_val, final.train.patience = f"{name}-refit", True, 0
    check_config(final)
    return final


def train_refit(config: Config, members: Sequence[Member], again: bool) -> str:
    """Trains on all images for the median best epoch of a group's runs. Returns the run's name."""
    config.train.stop_after = round(statistics.median(best_epoch(member.run) for member in members))
    run = RunFolder(Path(config.train.runs) / config.track.name)
    discard_earlier(run, config, again, replace_changed=True)  # of other folds or seeds
    if not run.result.exists():
        epochs = f"{config.train.stop_after} epochs, the median best of {len(members)} runs"
        print(f"{config.track.name}: trains on all photos, {epochs}", file=sys.stderr)
        train(config)
    return config.track.name


def best_epoch(run: RunFolder) -> int:
    """The number of epochs after which a run's score was highest; 0: it was not trained."""
    file = run.best if run.best.exists() else run.checkpoint
    if not file.exists():
        return 0
    return int(torch.load(file, weights_only=True, map_location="cpu", mmap=True)["epoch"]) + 1
